"""The face: the Python client, the command line and the nightly run."""

"""File formats of weights: each module reads one, by range, as bytes from a stranger, and executes nothing of it."""

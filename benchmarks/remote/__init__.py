"""A Hub of real-size models that take no disk: their bytes follow from seeds, when and where they are asked for."""

"""What is known: sketches in Parquet, everything else in DuckDB, generations behind one atomic pointer."""

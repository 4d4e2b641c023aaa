"""The tracks file: its record, its schema, reading and writing."""

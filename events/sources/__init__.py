"""Files of a source: find them and read them in pieces."""

"""Files of a source: which they are, how they are written, and their rows."""

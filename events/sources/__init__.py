"""Files of a source, how they are written, the flat rows in them, and proposals for their mappings."""

"""Files of a source, and the flat rows in them."""

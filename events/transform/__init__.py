"""Transform source rows to contract rows."""

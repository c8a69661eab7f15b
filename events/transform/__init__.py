"""Source rows to contract rows."""

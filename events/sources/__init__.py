"""Where events come from: files, how they are written, and proposals for their mappings."""

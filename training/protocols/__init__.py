"""Public evaluation protocols: how a file is split, and what rank the right item gets among the whole catalogue."""

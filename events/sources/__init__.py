"""Source files: finding them, their formats, and reading their rows."""

"""A mapping proposed for an unknown file: what its columns seem to be, and the YAML that says so."""

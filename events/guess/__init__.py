"""Propose a mapping for an unknown file: recognise its columns and write them as YAML."""

"""Sequence models with a loss at every position: one encoder per file, with the contract of `encoder.py`."""

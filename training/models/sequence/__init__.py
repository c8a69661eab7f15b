"""Sequence models that learn at every position: one encoder per file, behind the contract of `encoder.py`."""

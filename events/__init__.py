"""Events: the contract, source mappings, the account of every row, and the lake.

This package neither checks plausibility (`expectations` does) nor computes features. A new source needs only a mapping
file, no code.
"""

"""The feature catalogue: one HTML file with each feature's meaning, owner and distribution.

The stage `features` builds it from its own output, `features.json` and the tables. Nothing here computes features, and
the page never shows text that a person typed or stated.
"""

"""The feature views: what each feature means, and how it is computed from the log, as Ibis expressions.

A module defines one view, under its name: KEY, DESCRIPTIONS and `build(inputs)`. `features.definitions` lists them.
"""

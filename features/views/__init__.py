"""The feature views: the meaning of each feature, and its computation from the log as Ibis expressions.

Each module defines the view of the same name: KEY, DESCRIPTIONS and `build(inputs)`; `features.definitions` lists them.
"""

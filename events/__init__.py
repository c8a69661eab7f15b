"""What happened: the event contract, source mappings, the account of every row, the lake.

Nothing here judges plausibility (that is `expectations`) or computes a feature; a source is a mapping file, never code.
"""

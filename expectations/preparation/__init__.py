"""Preparation: what is done with good rows before features are computed, step by step as declared, with a report.

First what is missing (`missing`), then what is too far out (`outliers`), then who behaves like a program (`bots`).
Limits and medians are learned from the first part of the log's time, and hold for all of it: what happens later must
not change what was known before. Scaling is no step here: it is fitted on training rows, and kept with the model that
it belongs to (`training.models.scaler`).
"""

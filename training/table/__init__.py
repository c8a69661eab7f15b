"""Models for a flat table with one row per session: cleaning, splitting, leak detection, training, explanation.

For teams without an event log. This package uses neither the feature store nor the event contract.
"""

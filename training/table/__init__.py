"""Models for a flat table with one row per session: cleaning, splitting, leak detection, training, explanation.

It is for teams without an event log, and uses neither the feature store nor the event contract.
"""

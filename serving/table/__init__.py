"""The service for a flat table's model, and the command that builds it.

The service imports nothing from events, features or the stores: its Bento contains the model and the code to run it.
"""

"""The service of a flat table's model, and the command that leads from the table to its Bento.

The service imports nothing of events, features or the stores: its Bento carries a model and the little code around it.
"""

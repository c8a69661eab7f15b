"""What the data means: feature definitions, the Feast repo, daily snapshots and the real-time path of recent events.

Both training and serving get their features from here, so that they cannot differ. Nothing here knows a label, a
model or a request, and nothing here reads an event that the moment asked about could not have known.
"""

"""Features: definitions, the Feast repo, daily snapshots, and the real-time path of recent events.

Training and serving both get their features from here, so they cannot diverge. Nothing here depends on labels, models
or requests, and no feature uses an event that was not yet known at the time of the snapshot or prediction.
"""

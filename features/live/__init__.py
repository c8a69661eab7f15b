"""The live path: push collected events to their users' last N events in the online store.

The collector (`events.collector`) stores events without knowing features. This package has the follower of its log that
pushes events online, and the process that runs both. The lists are those of `features.recent`.
"""

"""The live path of features: collected events into the last N events of their users, in the online store.

The collector (`events.collector`) keeps events and knows no feature; here is the follower of its log that pushes them
online, and the process that runs both. Nothing here defines a feature: the lists are those of `features.recent`.
"""

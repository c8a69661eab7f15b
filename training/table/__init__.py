"""A flat table, one row a session: cleaned, split, searched for leaks, learned by every tabular model, explained.

For teams without an event log. No feature store and no event contract here; nothing knows a service.
"""

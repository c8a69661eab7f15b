"""Where served values are kept: one row for each entity of a view, the newest of all that was written.

SQLite and Redis hold the same rows under the same rule; Feast reaches them through its plug-in points (`plugins`),
loads and the live path directly (`access`). Nothing here knows what a feature means, nor where features come from.
"""

"""The online stores: one row per view and entity, newest wins, and the live events of each user as appended rows.

SQLite and Redis hold the same rows under the same rules (`rows`); Feast reaches them through its plug-in interface
(`feast_plugin`), loads and the live path directly. Nothing here computes features.
"""

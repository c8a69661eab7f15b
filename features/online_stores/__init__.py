"""The online stores: one row per view and entity, of which the newest wins, and append-only live events per user.

SQLite and Redis store the same rows with the same rules (`rows`). Feast uses them through its plug-in interface
(`feast_plugin`); loads and the live path use them directly. Nothing here computes features.
"""

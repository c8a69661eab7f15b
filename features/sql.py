"""Names in SQL text; values are bound, never written into it."""


def quoted(name: str) -> str:
    """Return a table's or column's name so that SQL takes it as such, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'

"""The command `shoplens ingest`."""

from pathlib import Path
from typing import Annotated

import typer


def ingest(
    inputs: Annotated[list[Path], typer.Argument(help="Files (CSV, CSV.gz, Parquet, JSON Lines) or folders of them.")],
    mapping: Annotated[Path, typer.Option(help="The mapping file of the source.")],
    lake: Annotated[Path, typer.Option(help="The lake to add to; made if it is new.")],
) -> None:
    """Bring anybody's log into the lake through a mapping file; print and keep the account of every row."""
    from events.ingest import read_source
    from events.lake import append
    from events.mapping import load_mapping

    source = load_mapping(mapping)
    done = read_source(source, inputs)
    if done.unread:
        typer.echo(f"not read, no table of the mapping: {', '.join(done.unread)}")
    for table, account in append(lake, source, done).items():
        typer.echo(account.line(table))

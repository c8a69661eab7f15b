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
    accounts = append(lake, source, read_source(source, inputs))
    for table, account in accounts.items():
        typer.echo(account.line(table))

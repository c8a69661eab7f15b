"""The command `shoplens ingest`."""

from pathlib import Path
from typing import Annotated

import typer

from shoplens.errors import SettingsError


def ingest(
    inputs: Annotated[list[Path], typer.Argument(help="Files (CSV, CSV.gz, Parquet, JSON Lines) or folders of them.")],
    mapping: Annotated[Path | None, typer.Option(help="The mapping file of the source.")] = None,
    lake: Annotated[Path | None, typer.Option(help="The lake to add to; made if it is new.")] = None,
    guess: Annotated[bool, typer.Option("--guess", help="Print a mapping for a file, to be read and edited.")] = False,
) -> None:
    """Bring anybody's log into the lake through a mapping file; print and keep the account of every row."""
    if guess:
        from events.guess import propose

        if len(inputs) != 1:
            raise SettingsError(f"--guess: must have one file; received {len(inputs)}. Name the file of events")
        typer.echo(propose(inputs[0]), nl=False)
        return
    from events.ingest import read_source
    from events.lake import append
    from events.mapping import load_mapping

    if mapping is None or lake is None:
        missing = "--mapping" if mapping is None else "--lake"
        raise SettingsError(f"{missing}: must be given; write a mapping yourself, or start with `--guess` and one file")
    source = load_mapping(mapping)
    done = read_source(source, inputs)
    if done.unread:
        typer.echo(f"not read, no table of the mapping: {', '.join(done.unread)}")
    for table, account in append(lake, source, done).items():
        typer.echo(account.line(table))

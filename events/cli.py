"""The commands `shoplens ingest`, `quarantine` and `lake`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from shoplens.errors import SettingsError


def ingest(
    inputs: Annotated[list[Path], typer.Argument(help="Files (CSV, CSV.gz, Parquet, JSON Lines) or folders of them.")],
    mapping: Annotated[Path | None, typer.Option(help="The mapping file of the source.")] = None,
    lake: Annotated[str | None, typer.Option(help="The lake to write to, a folder or a URL; created if new.")] = None,
    guess: Annotated[bool, typer.Option("--guess", help="Print a mapping for a file, to be read and edited.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the account and sample rows without writing anything.")
    ] = False,
) -> None:
    """Ingest any shop's log into the lake through a mapping file; print and keep the account of every row."""
    if guess:
        from events.guess.propose import propose

        if len(inputs) != 1:
            raise SettingsError(f"--guess: must have one file; received {len(inputs)}. Name the file of events")
        typer.echo(propose(inputs[0]), nl=False)
        return
    from events.lake import ingest_files
    from events.mapping import load_mapping
    from events.reading import Progress
    from shoplens.stage import console

    if mapping is None or (lake is None and not dry_run):
        missing = "--mapping" if mapping is None else "--lake"
        raise SettingsError(f"{missing}: must be given; write a mapping yourself, or start with `--guess` and one file")
    done = ingest_files(lake, load_mapping(mapping), inputs, Progress(console.print), dry_run=dry_run)
    for line in done.lines():
        typer.echo(line)


def quarantine(
    action: Annotated[Literal["list", "replay"], typer.Argument(help="List the rows, or replay corrected ones.")],
    lake: Annotated[str, typer.Option(help="The lake that quarantined them, a folder or a URL.")],
    reason: Annotated[str | None, typer.Option(help="list: only rows with this reason.")] = None,
    out: Annotated[Path | None, typer.Option(help="list: write the rows here, as JSON Lines to be corrected.")] = None,
    mapping: Annotated[Path | None, typer.Option(help="replay: the mapping file that reads them.")] = None,
    rows: Annotated[Path | None, typer.Option(help="replay: the corrected rows.")] = None,
) -> None:
    """List the quarantined rows of a lake, or replay corrected ones."""
    from events.mapping import load_mapping
    from events.replay import quarantined, reasons_by_table, replay, write_rows

    if action == "list":
        found = quarantined(lake, reason)
        for table, name, count in reasons_by_table(found):
            typer.echo(f"{table}: {name} {count:,}")
        typer.echo(f"{found.height:,} rows in quarantine{'' if reason is None else f' for {reason}'}")
        if out is not None:
            typer.echo(f"{write_rows(found, out):,} rows written to {out}")
        return
    if mapping is None or rows is None:
        missing = "--mapping" if mapping is None else "--rows"
        raise SettingsError(f"{missing}: required for replay; `shoplens quarantine list --out FILE` writes the rows")
    for table, account in replay(lake, load_mapping(mapping), rows).items():
        typer.echo(account.line(f"{table}, replayed"))


def lake(
    action: Annotated[Literal["status", "vacuum", "revert"], typer.Argument(help="Print what it holds, or change it.")],
    batch: Annotated[str | None, typer.Argument(help="revert: the batch, as `status` lists it.")] = None,
    *,
    lake: Annotated[str, typer.Option(help="The lake, a folder or a URL.")],
    since: Annotated[int, typer.Option(min=0, help="status: the version after which late days count.")] = 0,
) -> None:
    """Print a lake's content, history and late days, delete files of old versions, or revert an ingest."""
    from events.erase import revert
    from events.lake import lake_status, vacuum_lake

    if action == "revert":
        if batch is None:
            raise SettingsError("BATCH: must be given; `shoplens lake status` lists the batches of a lake")
        typer.echo(f"batch {batch} reverted, {revert(lake, batch):,} events removed; its files can be ingested again")
    elif action == "vacuum":
        typer.echo(f"{vacuum_lake(lake):,} files deleted that no version of the last day needs")
    else:
        for line in lake_status(lake, since):
            typer.echo(line)

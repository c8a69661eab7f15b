"""The command `shoplens simulate`."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer


def simulate(
    out: Annotated[Path, typer.Option(help="A new or an empty folder, or an earlier simulation, which is replaced.")],
    users: Annotated[int, typer.Option(help="People who could visit.")],
    items: Annotated[int, typer.Option(help="Articles.")],
    days: Annotated[int, typer.Option(help="Whole days, UTC.")],
    seed: Annotated[int, typer.Option(help="The same arguments give the same bytes.")],
    events: Annotated[int | None, typer.Option(help="About how many rows the log shall have.")] = None,
    start: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The first day; default 2025-01-01.")
    ] = None,
    dirt: Annotated[
        list[str] | None, typer.Option(help="KIND=RATE: a share of the rows is made wrong in a named way; repeatable.")
    ] = None,
    bots: Annotated[float, typer.Option(help="Bots, as a share of the users.")] = 0.0,
) -> None:
    """Simulate a shop whose truth is known: for load, faults and demonstrations, never instead of real data."""
    from simulator.plan import Plan, read_dirt
    from simulator.run import simulate as run

    plan = Plan(users, items, days, seed, start.date() if start else Plan.start, events, read_dirt(dirt or []), bots)
    counts = run(plan, out)
    typer.echo(f"{out}: {counts.rows:,} rows of {counts.visits:,} visits with {counts.orders:,} orders")
    for kind, rows in sorted(counts.dirt.items()):
        typer.echo(f"  {kind}: {rows:,} rows")
    typer.echo(f"read it with: shoplens ingest --mapping events/mappings/simulated.yaml --lake LAKE {out}")

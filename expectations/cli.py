"""The command `shoplens validate`."""

from datetime import datetime
from typing import Annotated

import typer

from shoplens.errors import SettingsError

_DAY = "%Y-%m-%d"


def validate(
    lake: Annotated[str, typer.Option(help="The lake, a folder or a URL.")],
    day: Annotated[datetime | None, typer.Option(formats=[_DAY], help="One day only.")] = None,
    first: Annotated[datetime | None, typer.Option("--from", formats=[_DAY], help="From this day on.")] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=[_DAY], help="Up to this day, included.")] = None,
) -> None:
    """Hold a lake, or days of it, against the suites and their season; exit with 1 when they are broken."""
    if day is not None and (first or last):
        raise SettingsError("--day: must be given alone, without --from and --to. Leave one out")
    from expectations.lake import Days, validate_lake
    from shoplens.params import load_params
    from shoplens.settings import load_settings

    settings = load_settings()
    params = load_params(settings.root / "params.yaml")
    ends = [moment.date() if moment else None for moment in ((day, day) if day else (first, last))]
    validate_lake(lake, Days(*ends), params.expectations, settings)

"""The command `shoplens validate`."""

from datetime import datetime
from typing import Annotated

import typer

from shoplens.errors import SettingsError

_DAY = "%Y-%m-%d"


def validate(
    lake: Annotated[str, typer.Option(help="The lake: a folder or a URL.")],
    day: Annotated[datetime | None, typer.Option(formats=[_DAY], help="Validate this day only.")] = None,
    first: Annotated[datetime | None, typer.Option("--from", formats=[_DAY], help="First day to validate.")] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=[_DAY], help="Last day to validate.")] = None,
) -> None:
    """Validate a lake, or a range of its days, against the suites and check it for drift; exit 1 on failure."""
    if day is not None and (first or last):
        raise SettingsError("--day: cannot be combined with --from or --to. Remove one of them")
    from expectations.lake import Days, validate_lake
    from shoplens.params import load_params
    from shoplens.settings import load_settings

    settings = load_settings()
    params = load_params(settings.root / "params.yaml")
    ends = [moment.date() if moment else None for moment in ((day, day) if day else (first, last))]
    validate_lake(lake, Days(*ends), params.expectations, settings)

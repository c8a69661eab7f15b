"""The arguments of a simulation, validated once."""

from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from shoplens.errors import SettingsError
from simulator.log import KINDS

DONE = "simulation.json"
_LIMITS = {"users": (1, 10**7), "items": (1, 10**6), "days": (1, 3_650), "seed": (0, 2**63 - 1)}
_FIRST, _LAST = date(1970, 1, 2), date(2189, 1, 1)  # ten years later is still before `events.times.LATEST`


def _reject(name: str, rule: str, received: Any, remedy: str) -> SettingsError:
    return SettingsError(f"--{name}: must be {rule}; received {received!r}. {remedy}")


@dataclass(frozen=True)
class Plan:
    """The arguments of `shoplens simulate`."""

    users: int  # number of people who could visit
    items: int  # number of articles, including later launches
    days: int  # whole days, UTC
    seed: int  # the same arguments give the same bytes
    start: date = date(2025, 1, 1)  # the first day
    events: int | None = None  # approximate number of rows; None leaves people's activity unchanged
    dirt: dict[str, float] = field(default_factory=dict)  # kind of dirt -> share of the rows that it can affect
    bots: float = 0.0  # bots, as a share of the users

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise _reject(name, f"a whole number from {low:,} to {high:,}", value, "Choose one of these")
        if self.events is not None and self.events < 1:
            raise _reject("events", "at least 1", self.events, "Ask for more, or leave it out")
        if not 0 <= self.bots <= 1:
            raise _reject("bots", "a share of the users, from 0 to 1", self.bots, "0.01 is one bot for 100 users")
        if not _FIRST <= self.start <= _LAST:
            raise _reject("start", f"a day from {_FIRST} to {_LAST}", str(self.start), "Choose one of these")
        self._check_dirt()

    def _check_dirt(self) -> None:
        for kind, rate in self.dirt.items():
            if kind not in KINDS:
                raise _reject("dirt", f"KIND=RATE with a KIND of {', '.join(KINDS)}", kind, "Choose one of these")
            if not 0 <= rate <= 1:
                raise _reject("dirt", f"{kind}=RATE with a RATE from 0 to 1", rate, "0.01 is one row in 100")
        if sum(self.dirt.values()) > 1:
            total = sum(self.dirt.values())
            raise _reject("dirt", "rates that sum to at most 1 (a row gets one kind)", total, "Lower some")

    def as_json(self) -> dict[str, Any]:
        """Return the arguments as JSON values, without the output folder."""
        return {**self.__dict__, "start": self.start.isoformat(), "dirt": dict(self.dirt)}


def read_dirt(pairs: list[str]) -> dict[str, float]:
    """Parse KIND=RATE texts; raise a SettingsError for other texts or a repeated kind."""
    rates: dict[str, float] = {}
    for pair in pairs:
        kind, _, rate = pair.partition("=")
        try:
            value = float(rate)
        except ValueError as error:
            raise _reject("dirt", "KIND=RATE, as in duplicate=0.01", pair, "Write it so") from error
        if kind in rates:
            raise _reject("dirt", "given once for a kind", pair, "Leave one")
        rates[kind] = value
    return rates


def require_place(out: Path) -> None:
    """Raise a SettingsError if `out` cannot be created, or has anything but an earlier simulation to replace."""
    if out.is_dir() and ((out / DONE).is_file() or not any(out.iterdir())):
        return
    if out.exists():
        raise _reject("out", "a new or an empty folder, or an earlier simulation", str(out), "Name another place")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _reject("out", "a folder that can be made", str(out), f"{error.strerror}: name another place") from error

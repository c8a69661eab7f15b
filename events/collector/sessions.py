"""Sessions of events that are received without one: 30 idle minutes, as for files."""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta

IDLE = timedelta(minutes=30)  # Google Analytics' session time-out
_PEOPLE_KEPT = 1_000_000


@dataclass
class _Session:
    name: str
    first: datetime
    last: datetime


class Sessions:
    """The latest session of everybody who was here lately; those longest away are forgotten first."""

    def __init__(self, people: int = _PEOPLE_KEPT) -> None:
        self._latest: OrderedDict[str, _Session] = OrderedDict()
        self._people = people

    def of(self, who: str, moment: datetime) -> str:
        """Return the session of an event without one; an event that comes late joins the session around it."""
        session = self._latest.get(who)
        if session is None or not session.first - IDLE <= moment <= session.last + IDLE:
            session = _Session(f"{who}-{int(moment.timestamp())}", moment, moment)
        self._keep(who, session, moment)
        return session.name

    def note(self, who: str, moment: datetime, name: str) -> None:
        """Remember a session that the sender named, or that is read again from the log."""
        session = self._latest.get(who)
        if session is None or session.name != name:
            session = _Session(name, moment, moment)
        self._keep(who, session, moment)

    def _keep(self, who: str, session: _Session, moment: datetime) -> None:
        held = self._latest.get(who)
        if held is not None and held is not session and held.last > session.last:
            return  # an old session that came late: the newer one goes on
        session.first, session.last = min(session.first, moment), max(session.last, moment)
        self._latest[who] = session
        self._latest.move_to_end(who)
        if len(self._latest) > self._people:
            self._latest.popitem(last=False)

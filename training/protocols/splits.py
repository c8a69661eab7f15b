"""Public evaluation protocols: which events are learned from, and which are predicted from what came before."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoplens.errors import SourceError
from training.data.sequences import Sequences
from training.data.windows import Longs

_MIN_LEAVE_ONE_OUT = 3  # an event to learn from, one to validate and one to test
_LATEST = 0.1  # share of the latest training sessions that are validated on, and of a lone file that is tested on


@dataclass(frozen=True)
class Queries:
    """Events to predict. Each is predicted from the user's events before it.

    Attributes:
        user: Which user or session, (queries,); intervals resample these.
        begin: The user's first event, (queries,).
        target: The event to predict, (queries,).
    """

    user: Longs
    begin: Longs
    target: Longs

    def __len__(self) -> int:
        return len(self.target)

    def take(self, idx: Any) -> "Queries":
        """Return the queries selected by `idx`."""
        return Queries(self.user[idx], self.begin[idx], self.target[idx])


@dataclass(frozen=True)
class Split:
    """A file cut by a protocol.

    Attributes:
        sequences: All events.
        begin: First training event of each history, (users,).
        end: One past the last training event, (users,).
        validation: Queries for early stopping and for the choice of settings.
        test: Queries that are reported.
    """

    sequences: Sequences
    begin: Longs
    end: Longs
    validation: Queries
    test: Queries


def leave_one_out(sequences: Sequences) -> Split:
    """Test on each user's last event, validate on the one before, learn from the rest (Kang & McAuley, 2018).

    Users with fewer than three events are only learned from.

    Raises:
        SourceError: no user has three events.
    """
    begin, stop = sequences.offsets[:-1], sequences.offsets[1:]
    enough = np.flatnonzero(stop - begin >= _MIN_LEAVE_ONE_OUT)
    if len(enough) == 0:
        raise SourceError("leave-one-out: must have a user with at least 3 events; none has. Use --protocol sessions")
    end = np.array(stop)
    end[enough] -= 2
    first, last = begin[enough], stop[enough]
    return Split(sequences, begin, end, Queries(enough, first, last - 2), Queries(enough, first, last - 1))


def every_next_item(sequences: Sequences, sessions: NDArray[np.int64], known: NDArray[np.bool_]) -> Queries:
    """Return a query for each event of some sessions but the first, if its item was learned from.

    Args:
        sequences: All events.
        sessions: The sessions, (n,).
        known: Whether each item number occurs in the training sessions, (items + 1,).
    """
    lengths = np.diff(sequences.offsets)[sessions]
    user = np.repeat(sessions, np.maximum(lengths - 1, 0))
    begin = sequences.offsets[user].astype(np.int64)
    number = np.arange(len(user)) - np.searchsorted(user, user)
    queries = Queries(user, begin, begin + number + 1)
    return queries.take(known[sequences.item[queries.target]])


def split_sessions(sequences: Sequences, test_from: int | None = None) -> Split:
    """Test on every next item of the last sessions, validate on those before, learn from the rest.

    Args:
        sequences: Sessions in time order.
        test_from: First session of the test; None takes the last tenth.

    Raises:
        SourceError: one of the three parts has no event to predict.
    """
    test_from = int(sequences.users * (1 - _LATEST)) if test_from is None else test_from
    validation_from = int(test_from * (1 - _LATEST))
    known = np.zeros(sequences.items + 1, np.bool_)
    known[sequences.item[: sequences.offsets[validation_from]]] = True
    validation = every_next_item(sequences, np.arange(validation_from, test_from), known)
    test = every_next_item(sequences, np.arange(test_from, sequences.users), known)
    offsets = sequences.offsets.astype(np.int64)
    if min(len(validation), len(test)) == 0 or not (np.diff(offsets[: validation_from + 1]) > 1).any():
        raise SourceError(
            f"sessions: the training, validation and test sessions must each have two known items in one session; of "
            f"{sequences.users} sessions none has in one of the parts. Add sessions"
        )
    return Split(sequences, offsets[:validation_from], offsets[1 : validation_from + 1], validation, test)

"""Five kills, one of every step: `make chaos` does a hundred."""

import random
from collections.abc import Callable

import pytest

from tests.chaos.__main__ import rounds
from tests.chaos.kills import Killed
from tests.chaos.world import STEPS

pytestmark = pytest.mark.stores


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Callable[[random.Random], Killed]]:
    return rounds(tmp_path_factory.mktemp("chaos"), users=60, days=20)


@pytest.mark.parametrize(("number", "step"), list(enumerate([*STEPS, "collector"])))
def test_killed_and_run_again_leaves_what_an_undisturbed_run_leaves(
    steps: dict[str, Callable[[random.Random], Killed]], number: int, step: str
) -> None:
    done = steps[step](random.Random(20 + number))  # noqa: S311 - a moment, not a secret
    assert done.equal, done.line()

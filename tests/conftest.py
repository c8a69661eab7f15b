"""What every test shares: cheap tests first, and no connection beyond this machine."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
REAL_DATA = ROOT.parent / "shared" / "data"

# Pure-Python tests first: they run in seconds. Then the longest files, each of which is one worker's: the short ones at
# the end keep all workers busy.
_ORDER = ("whole", "airflow", "tensorflow", "stores", "service")


def _rank(item: pytest.Item) -> int:
    return max((_ORDER.index(mark.name) + 1 for mark in item.iter_markers() if mark.name in _ORDER), default=0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_rank)


def pytest_configure() -> None:
    os.environ["PATH"] = f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture(autouse=True)
def _only_this_machine(socket_allow_hosts_loopback: None) -> None:
    """Every test runs with sockets closed to other machines."""


@pytest.fixture
def socket_allow_hosts_loopback() -> object:
    import pytest_socket

    pytest_socket.socket_allow_hosts(["127.0.0.1", "localhost", "::1"], allow_unix_socket=True)
    yield
    pytest_socket._remove_restrictions()


@pytest.fixture(scope="session")
def root() -> Path:
    """The project folder."""
    return ROOT


@pytest.fixture
def real_data() -> Path:
    """The folder of real logs beside the project; the test is skipped where there is none."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real data at {REAL_DATA}")
    return REAL_DATA

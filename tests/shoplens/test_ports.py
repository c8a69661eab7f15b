import socket
from pathlib import Path

import pytest

from shoplens.errors import PortInUseError, SettingsError
from shoplens.local.ports import Ports, choose_ports, require_free
from shoplens.settings import Settings, load_settings


def test_two_parts_do_not_share_a_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_PORT", "8180")
    monkeypatch.setenv("SERVICE_PORT", "8180")
    with pytest.raises(SettingsError, match="must be two ports; received 8180 for both"):
        choose_ports(Settings(root=tmp_path), running=False)
    monkeypatch.setenv("SERVICE_PORT", "3100")
    assert choose_ports(Settings(root=tmp_path), running=False) == Ports(8180, 3100)


def test_a_port_in_use_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortInUseError, match="is in use; end what uses it"):
            require_free("SERVICE_PORT", taken.getsockname()[1])


def test_a_release_waits_where_the_service_listens(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPLENS_ROOT", str(root))
    assert load_settings().service_url == "http://127.0.0.1:3000"
    monkeypatch.setenv("SERVICE_PORT", "3100")
    assert load_settings().service_url == "http://127.0.0.1:3100"
    monkeypatch.setenv("SHOPLENS_SERVICE_URL", "http://service:3000")
    assert load_settings().service_url == "http://service:3000"

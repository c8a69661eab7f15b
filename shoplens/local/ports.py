"""Ports of the platform, chosen before anything starts and kept while it runs."""

import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from shoplens.errors import LocalRunError, PortInUseError, SettingsError
from shoplens.files import read_json, write_json
from shoplens.settings import Settings


@dataclass(frozen=True)
class Ports:
    """The ports that the platform listens on, on 127.0.0.1."""

    airflow: int = 8080
    service: int = 3000


def _kept(settings: Settings) -> Path:
    return settings.var_dir / "run/ports.json"


def keep_ports(settings: Settings, ports: Ports) -> None:
    """Store the ports of the platform that is being started."""
    write_json(_kept(settings), asdict(ports))


def kept_ports(settings: Settings) -> Ports | None:
    """Return the ports that the platform was last started with; None if it never was."""
    path = _kept(settings)
    return Ports(**read_json(path)) if path.exists() else None


def choose_ports(settings: Settings, running: bool) -> Ports:
    """Return the ports of the running platform, or else those set in the environment.

    Raises:
        LocalRunError: the platform runs on other ports than those set in the environment.
        SettingsError: both ports are the same.
    """
    kept = kept_ports(settings) if running else None
    default = kept or Ports()
    ports = Ports(port_setting("AIRFLOW_PORT", default.airflow), port_setting("SERVICE_PORT", default.service))
    if ports.airflow == ports.service:
        raise SettingsError(
            f"AIRFLOW_PORT, SERVICE_PORT: must be two ports; received {ports.airflow} for both. Choose another for one"
        )
    if kept is not None and ports != kept:
        raise LocalRunError(
            f"AIRFLOW_PORT {ports.airflow}, SERVICE_PORT {ports.service}: the platform is running on {kept.airflow} "
            f"and {kept.service}; leave the variables unset to reuse it, or `make stop` first"
        )
    return ports


def port_setting(name: str, default: int) -> int:
    """Read a port from the environment; raise a SettingsError if it is invalid."""
    given = os.environ.get(name, str(default))
    if not given.isdigit() or not 1 <= int(given) <= 65535:
        raise SettingsError(f"{name}: must be a port number from 1 to 65535; received {given!r}")
    return int(given)


def require_free(name: str, port: int, host: str = "127.0.0.1") -> None:
    """Raise a PortInUseError if the port is already in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortInUseError(
                f"{name}: port {port} of {host} is in use; end what uses it, or choose another: {name}=… make demo"
            ) from error

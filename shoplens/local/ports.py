"""Ports: said before anything starts."""

import os
import socket

from shoplens.errors import PortInUseError, SettingsError


def port_setting(name: str, default: int) -> int:
    """Read a port from the environment.

    Raises:
        SettingsError: it is no port number.
    """
    given = os.environ.get(name, str(default))
    if not given.isdigit() or not 1 <= int(given) <= 65535:
        raise SettingsError(f"{name}: must be a port number from 1 to 65535; received {given!r}")
    return int(given)


def require_free(name: str, port: int) -> None:
    """Check that nobody listens on a port of 127.0.0.1.

    Raises:
        PortInUseError: somebody does.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PortInUseError(
                f"{name}: port {port} of 127.0.0.1 is in use; end what uses it, or choose another: {name}=… make demo"
            ) from error

"""A TCP port for a server of our own on this machine."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_LOWEST = 10240
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_USUAL = 32768  # where Linux begins by default; BSD and macOS: 49152


def free_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago.

    It is none of those that the kernel gives to clients, which might get it before the server.
    """
    # not by the generator of the program, which may be seeded: each run would try the same ones
    ports = random.SystemRandom().sample(
        range(_LOWEST, max(_lowest_of_clients(), 2 * _LOWEST)), 100
    )
    return next((port for port in ports if _is_free(port)), 0) or _any()


def _lowest_of_clients() -> int:
    try:
        return int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return _USUAL


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _any() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])

"""paramiko's transport, able to open unix sockets on the other side."""

from __future__ import annotations

import threading
from typing import Any

import paramiko

_SOCKET = "direct-streamlocal@openssh.com"


class Transport(paramiko.Transport):
    """A transport that prefers ciphers in one pass, and opens unix sockets there."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        ciphers = self.get_security_options().ciphers
        # twice as fast here as a cipher and a MAC one after the other
        self.get_security_options().ciphers = tuple(
            sorted(ciphers, key=lambda name: "gcm" not in name)
        )
        self._opening = threading.local()

    def prefer_keys(self, types: list[str]) -> None:
        """Ask for a host key of one of these types first: those that are known."""
        options = self.get_security_options()
        wanted = [name for kind in types for name in _signatures(kind)]
        first = [name for name in wanted if name in options.key_types]
        rest = [name for name in options.key_types if name not in first]
        options.key_types = (*first, *rest)

    def open_socket(self, path: str, *, timeout: float) -> paramiko.Channel:
        """Open a channel to a unix socket there (OpenSSH's PROTOCOL, section 2.4)."""
        self._opening.path = path
        try:
            return self.open_channel(_SOCKET, timeout=timeout)
        finally:
            self._opening.path = None

    def _send_user_message(self, data: Any) -> None:
        # open_channel writes the fields of the kinds it knows; sshd closes the whole connection
        # on a message without those of this one: path, reserved text, reserved number
        if getattr(self._opening, "path", None) and data.asbytes()[:1] == b"\x5a":
            data.add_string(self._opening.path)
            data.add_string("")
            data.add_int(0)
        super()._send_user_message(data)  # type: ignore[misc]


def _signatures(kind: str) -> list[str]:
    return ["rsa-sha2-512", "rsa-sha2-256"] if kind == "ssh-rsa" else [kind]

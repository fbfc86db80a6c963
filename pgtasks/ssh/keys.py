"""Who we are to a host: keys of the agent, key files, a passphrase asked for on a terminal."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paramiko
from paramiko.auth_strategy import AuthSource, AuthStrategy, InMemoryPrivateKey
from paramiko.pkey import UnknownKeyType

from pgtasks.ssh.config import Settings


class _File(AuthSource):
    """A key file; its passphrase is asked for when its turn comes."""

    def __init__(self, user: str, path: str, strategy: Keys) -> None:
        super().__init__(user)
        self.path, self.strategy = path, strategy

    def authenticate(self, transport: paramiko.Transport) -> list[str]:
        key = self.strategy.opened(self.path)
        return transport.auth_publickey(self.username, key)


@dataclass
class Keys(AuthStrategy):
    """Try keys as ssh does: those of the agent, then the files; `tried` says which, in words."""

    settings: Settings
    tried: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(ssh_config=paramiko.SSHConfig())

    def get_sources(self) -> Iterator[AuthSource]:
        """Yield what to log in with, in order."""
        user = self.settings.user
        public = {_public(path) for path in self.settings.identities} - {""}
        offered = set()
        for key in self._of_agent():
            if not self.settings.identities_only or key.get_base64() in public:
                offered.add(key.get_base64())
                self.tried.append(f"a key of the agent ({key.get_name()})")
                yield InMemoryPrivateKey(user, key)
        for path in self.settings.identities:
            if Path(path).is_file() and _public(path) not in offered:
                yield _File(user, path, self)

    def _of_agent(self) -> tuple[Any, ...]:
        where = self.settings.agent
        if where == "none":
            return ()
        if where not in ("SSH_AUTH_SOCK", ""):
            name = where[1:].strip("{}") if where.startswith("$") else ""
            socket = os.environ.get(name, "") if name else str(Path(where).expanduser())
            os.environ["SSH_AUTH_SOCK"] = socket  # where paramiko looks, and nobody else here
        return tuple(paramiko.Agent().get_keys())

    def opened(self, path: str) -> paramiko.PKey:
        """Return the key of a file, raising SSHException where it cannot be read."""
        try:
            key = paramiko.PKey.from_path(path)
        except paramiko.PasswordRequiredException:
            return self._unlocked(path)
        except TypeError:  # cryptography's word for the same
            return self._unlocked(path)
        except (OSError, ValueError, UnknownKeyType) as exc:
            self.tried.append(f"{path} (not read: {getattr(exc, 'strerror', None) or exc})")
            raise paramiko.SSHException(path) from None
        self.tried.append(path)
        return key

    def _unlocked(self, path: str) -> paramiko.PKey:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            self.tried.append(f"{path} (it has a passphrase, and there is no terminal: ssh-add it)")
            raise paramiko.SSHException(path)
        typed = getpass.getpass(f"passphrase for {path}: ", stream=sys.stderr)
        try:
            key = paramiko.PKey.from_path(path, password=typed)
        except (ValueError, paramiko.SSHException):
            self.tried.append(f"{path} (wrong passphrase)")
            raise paramiko.SSHException(path) from None
        self.tried.append(path)
        return key


def _public(path: str) -> str:
    """Return the key in the .pub file beside a key file, or nothing."""
    try:
        parts = Path(f"{path}.pub").read_text("utf-8", "replace").split()
    except OSError:
        return ""
    return parts[1] if len(parts) > 1 else ""

"""Log in to a host with keys of the agent or of files, asking for passphrases on a terminal."""

from __future__ import annotations

import base64
import binascii
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paramiko
from paramiko.auth_strategy import AuthSource, AuthStrategy
from paramiko.pkey import UnknownKeyType

from pgtasks.host.ssh.config import Settings
from pgtasks.report import CONSOLE

_OPENSSH = re.compile(
    rb"-----BEGIN OPENSSH PRIVATE KEY-----(.+?)-----END OPENSSH PRIVATE KEY-----", re.DOTALL
)
_AGENT = "SSH_AUTH_SOCK"
_ASKED = 3  # attempts at a passphrase, as in ssh
_MAGIC = b"openssh-key-v1\0"


class AnotherFactorNeeded(paramiko.SSHException):
    """The host accepted a key and requires another factor."""


class _Key(AuthSource):
    """A key, or a key file whose passphrase is asked for when it is tried."""

    def __init__(self, strategy: Keys, name: str, key: paramiko.PKey | None = None) -> None:
        super().__init__(strategy.settings.user)
        self.strategy, self.name, self.key = strategy, name, key

    def authenticate(self, transport: paramiko.Transport) -> list[str]:
        strategy = self.strategy
        if not transport.is_active():
            # sshd disconnects after MaxAuthTries keys
            strategy.tried.append(f"{self.name} (not tried: the host had hung up)")
            raise paramiko.SSHException(self.name)
        key = self.key or strategy.opened(self.name)
        strategy.tried.append(self.name)
        wanted = transport.auth_publickey(self.username, key)
        if wanted:
            strategy.tried[-1] += f" (accepted, but {' or '.join(wanted)} is required too)"
            raise AnotherFactorNeeded(self.name)  # the next key may be the other factor
        strategy.taken = self.name
        return wanted


@dataclass
class Keys(AuthStrategy):
    """Try keys as ssh does, first those of the agent, then the files.

    `tried` describes them; `taken` is the key that was accepted.
    """

    settings: Settings
    tried: list[str] = field(default_factory=list)
    taken: str = ""
    _agent: paramiko.Agent | None = None

    def __post_init__(self) -> None:
        super().__init__(ssh_config=paramiko.SSHConfig())

    def get_sources(self) -> Iterator[AuthSource]:
        """Yield the keys in order, with the agent's keys of the configured files first."""
        public = {path: public_half(path) for path in self.settings.identities}
        agent = {key.get_base64(): key for key in self._of_agent()}
        ours = [half for half in public.values() if half in agent]
        others = [] if self.settings.identities_only else [key for key in agent if key not in ours]
        for half in (*ours, *others):
            yield _Key(self, _named(agent[half]), agent[half])
        for path, half in public.items():
            if half not in agent and Path(path).is_file() and not path.endswith(".pub"):
                yield _Key(self, path)
            elif not half and len(public) == 1:  # not one of ssh's default names
                self.tried.append(f"{path} (no such file)")

    def _of_agent(self) -> tuple[Any, ...]:
        socket = self._socket()
        if not (socket and Path(socket).is_socket()):
            return ()
        before = os.environ.get(_AGENT)
        os.environ[_AGENT] = socket  # the only place where paramiko looks
        try:
            self._agent = paramiko.Agent()
            return tuple(self._agent.get_keys())
        except (paramiko.SSHException, OSError) as exc:
            self.tried.append(f"the agent (no answer: {exc})")
            return ()
        finally:
            del os.environ[_AGENT]
            if before is not None:
                os.environ[_AGENT] = before

    def _socket(self) -> str:
        """Return the agent's socket, as `IdentityAgent` names it: a path, $VARIABLE or none."""
        where = self.settings.agent
        if where == "none":
            return ""
        if where.startswith("$"):
            return os.environ.get(where[1:].strip("{}"), "")
        return os.environ.get(_AGENT, "") if where == _AGENT else str(Path(where).expanduser())

    def close(self) -> None:
        """Close the connection to the agent."""
        if self._agent is not None:
            self._agent.close()

    def opened(self, path: str) -> paramiko.PKey:
        """Return the key of a file, raising SSHException if it cannot be read."""
        try:
            return paramiko.PKey.from_path(path)
        except (paramiko.PasswordRequiredException, TypeError):  # both: a passphrase is needed
            return self._unlocked(path)
        except (OSError, ValueError, UnknownKeyType, paramiko.SSHException) as exc:
            why = getattr(exc, "strerror", None) or str(exc) or "not a private key"
            self.tried.append(f"{path} (not read: {why})")
            raise paramiko.SSHException(path) from None

    def _unlocked(self, path: str) -> paramiko.PKey:
        if not CONSOLE.interactive:
            self.tried.append(f"{path} (it has a passphrase, and there is no terminal: ssh-add it)")
            raise paramiko.SSHException(path)
        for _ in range(_ASKED):
            typed = CONSOLE.ask_secret(f"passphrase for {path}: ")
            if not typed:
                break
            try:
                # positional: paramiko 5 renamed it; the types are those of an older paramiko
                return paramiko.PKey.from_path(path, typed.encode())  # type: ignore[arg-type]
            except ValueError:
                continue
            except (OSError, paramiko.SSHException) as exc:
                self.tried.append(f"{path} (not read: {exc})")
                raise paramiko.SSHException(path) from None
        self.tried.append(f"{path} (wrong passphrase)")
        raise paramiko.SSHException(path)


def _named(key: Any) -> str:
    comment = f" {key.comment}" if getattr(key, "comment", "") else ""
    return f"the agent's key{comment} ({key.get_name()})"


def public_half(path: str) -> str:
    """Return the public key of a key file in base64, empty if it cannot be read.

    It is in the .pub file beside it (the private key may be in the agent only), or in the file
    itself: OpenSSH's format encrypts only the private part (PROTOCOL.key).
    """
    for file in (path, f"{path}.pub"):
        try:
            content = Path(file).read_bytes()
        except OSError:
            continue
        if match := _OPENSSH.search(content):
            if half := _unencrypted(match[1]):
                return half
        elif file.endswith(".pub"):
            words = content.decode("utf-8", "replace").split()
            return words[1] if len(words) > 1 else ""
    return ""


def _unencrypted(armoured: bytes) -> str:
    """Return the public key in a private one: the fourth text, after a number."""
    try:
        data = base64.b64decode(b"".join(armoured.split()))
        texts, place = [], len(_MAGIC)
        for number in range(4):
            place += 4 if number == 3 else 0  # number of keys: one
            (length,) = struct.unpack_from(">I", data, place)
            texts.append(data[place + 4 : place + 4 + length])
            place += 4 + length
    except (binascii.Error, struct.error):
        return ""
    return base64.b64encode(texts[3]).decode() if data.startswith(_MAGIC) else ""

"""Host keys: a host is who its key says it is, and a key is trusted by hand alone."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import paramiko

from pgtasks.errors import PgtasksError, Refused, Unreachable
from pgtasks.ssh.config import Settings

_MARKED = ("@revoked", "@cert-authority")


class Distrusted(Unreachable):
    """Report a host whose key is not the one that is known of it."""


class Unknown(Distrusted):
    """Report a host whose key is in no file, with what it takes to trust it."""

    def __init__(self, message: str, key: paramiko.PKey) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class Line:
    """One line of a known_hosts file: its marker, the names it is for, the key."""

    file: str
    number: int
    marker: str
    names: str
    kind: str
    key: str

    def is_for(self, name: str) -> bool:
        """Return whether the line is for a host: by name, pattern or hash (sshd(8))."""
        if self.names.startswith("|1|"):
            return _hashed(self.names, name)
        from fnmatch import fnmatchcase

        # OpenSSH's patterns know * and ?, no brackets: those are part of [host]:port
        patterns = [part.replace("[", "[[]") for part in self.names.lower().split(",")]
        refused = any(fnmatchcase(name.lower(), p[1:]) for p in patterns if p[:1] == "!")
        return not refused and any(fnmatchcase(name.lower(), p) for p in patterns if p[:1] != "!")


def lines(files: Sequence[str]) -> Iterator[Line]:
    """Yield the lines of known_hosts files; a file that is not there is empty."""
    for file in files:
        try:
            text = Path(file).read_text("utf-8", "replace")
        except OSError:
            continue
        for number, raw in enumerate(text.splitlines(), 1):
            parts = raw.split()
            marker = parts.pop(0) if parts and parts[0] in _MARKED else ""
            if len(parts) >= 3 and not parts[0].startswith("#"):
                yield Line(file, number, marker, *parts[:3])


def _hashed(names: str, name: str) -> bool:
    from paramiko import HostKeys

    try:
        return HostKeys.hash_host(name, names) == names
    except (ValueError, binascii.Error):
        return False


def fingerprint(key: paramiko.PKey) -> str:
    """Return a key's fingerprint as ssh-keygen -l prints it."""
    digest = hashlib.sha256(key.asbytes()).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def known_types(settings: Settings) -> list[str]:
    """Return the types of the keys that are known of a host."""
    return [line.kind for line in _of(settings) if not line.marker]


def _of(settings: Settings) -> list[Line]:
    return [line for line in lines(settings.known_hosts) if line.is_for(settings.name)]


def check(settings: Settings, key: paramiko.PKey, *, environment: str = "") -> None:
    """Raise Distrusted unless the key of a host is the one that is known of it."""
    found = _of(settings)
    text, kind, shown = key.get_base64(), key.get_name(), fingerprint(key)
    place = f"{settings.name}: its {kind} key {shown}"
    revoked = [line for line in found if line.marker == "@revoked" and line.key == text]
    if revoked or _in_revoked_file(settings, text):
        where = f"{revoked[0].file}:{revoked[0].number}" if revoked else settings.revoked
        raise Distrusted(f"{place} is revoked by {where}")
    plain = [line for line in found if not line.marker]
    if any(line.key == text for line in plain):
        return
    if plain:
        where = ", ".join(f"{line.file}:{line.number} ({line.kind})" for line in plain)
        raise Distrusted(
            f"{place} is not the one in {where}: somebody may sit in between, or the host was set "
            f"up anew: when you are sure, ssh-keygen -R {settings.name!r} and trust the new one"
        )
    trust = f"inv remote.trust{f' --env {environment}' if environment else ''}"
    also = "".join(
        f" ({line.file}:{line.number} trusts certificates, which are not read here)"
        for line in found
        if line.marker == "@cert-authority"
    )
    raise Unknown(f"{place} is unknown{also}: {trust} trusts it", key)


def _in_revoked_file(settings: Settings, text: str) -> bool:
    if not settings.revoked:
        return False
    try:
        content = Path(settings.revoked).expanduser().read_bytes()
    except OSError as exc:
        raise Unreachable(f"RevokedHostKeys {settings.revoked}: {exc.strerror}") from None
    if content.startswith(b"SSHKRL\n"):
        raise Refused(f"RevokedHostKeys {settings.revoked} is a KRL, which is not read here")
    return text.encode() in content


class Policy(paramiko.MissingHostKeyPolicy):
    """Hold the host's key against the files; paramiko itself knows of none, so it always asks."""

    def __init__(self, settings: Settings, environment: str) -> None:
        self.settings, self.environment = settings, environment

    def missing_host_key(
        self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey
    ) -> None:
        """Raise Distrusted unless the key is known."""
        check(self.settings, key, environment=self.environment)


def trust(settings: Settings, key: paramiko.PKey, path: Path) -> None:
    """Append a host's key to a file of known hosts, raising PgtasksError where that fails."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "r+b") as file:
            text = file.read()
            apart = b"" if not text or text.endswith(b"\n") else b"\n"
            file.write(apart + f"{settings.name} {key.get_name()} {key.get_base64()}\n".encode())
    except OSError as exc:
        raise PgtasksError(f"cannot write {str(path)!r}: {exc.strerror}") from None

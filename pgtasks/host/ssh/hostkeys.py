"""Host keys: check the key of a host; only a person can trust a new one."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import paramiko

from pgtasks.errors import PgtasksError, Unreachable
from pgtasks.host import child
from pgtasks.host.ssh.config import Settings, trusted_file
from pgtasks.report import typed

_WAIT = 20  # seconds for ssh-keygen
_MARKED = ("@revoked", "@cert-authority")


class HostKeyError(Unreachable):
    """The key of the host is not the known one, or cannot be checked."""


class UnknownHostKey(HostKeyError):
    """The key of the host is in no file; the error names the task that trusts it."""


@dataclass(frozen=True)
class Line:
    """One line of a known_hosts file: marker, names, key."""

    file: str
    number: int
    marker: str
    names: str
    kind: str
    key: str

    def is_for(self, name: str) -> bool:
        """Return whether the line is for a host, by name, pattern or hash (sshd(8))."""
        if self.names.startswith("|1|"):
            return _hashed(self.names, name)
        from fnmatch import fnmatchcase

        # OpenSSH's patterns have * and ?, but no brackets, which are part of [host]:port
        patterns = [part.replace("[", "[[]") for part in self.names.lower().split(",")]
        refused = any(fnmatchcase(name.lower(), p[1:]) for p in patterns if p[:1] == "!")
        return not refused and any(fnmatchcase(name.lower(), p) for p in patterns if p[:1] != "!")

    def revokes(self, key: str) -> bool:
        """Return whether the line revokes a key."""
        return self.marker == "@revoked" and self.key == key


def lines(files: Sequence[str]) -> Iterator[Line]:
    """Yield the lines of known_hosts files, skipping files that do not exist."""
    for file in files:
        try:
            text = Path(file).read_text("utf-8", "replace")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:
            raise HostKeyError(f"known hosts {file}: {exc.strerror}") from None
        for number, raw in enumerate(text.splitlines(), 1):
            parts = raw.split()
            marker = parts.pop(0) if parts and parts[0] in _MARKED else ""
            if len(parts) >= 3 and not parts[0].startswith("#"):
                yield Line(file, number, marker, *parts[:3])


def _hashed(names: str, name: str) -> bool:
    """Return whether `|1|salt|hash` is the HMAC-SHA1 of a name."""
    try:
        salt, hashed = map(base64.b64decode, names.split("|")[2:4])
    except (ValueError, binascii.Error):
        return False
    return hmac.compare_digest(hmac.new(salt, name.lower().encode(), "sha1").digest(), hashed)


def fingerprint(key: paramiko.PKey) -> str:
    """Return a key's fingerprint as ssh-keygen -l prints it."""
    digest = hashlib.sha256(key.asbytes()).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def known_types(settings: Settings) -> list[str]:
    """Return the types of the known keys of a host."""
    return [line.kind for line in _of(settings) if not line.marker]


def _of(settings: Settings) -> list[Line]:
    """Return the lines for a host, or as ssh does, those without the port if there are none."""
    files = (*settings.known_hosts, *settings.shared_hosts)
    everything = list(lines(files))
    matching = [line for line in everything if line.is_for(settings.name)]
    if settings.plain and not any(not line.marker for line in matching):
        matching += [
            line for line in everything if line.is_for(settings.plain) and line not in matching
        ]
    return matching


def check(settings: Settings, key: paramiko.PKey, *, environment: str = "") -> Line:
    """Return the line with the key of a host, raising HostKeyError if there is none."""
    lines = _of(settings)
    text, place = key.get_base64(), f"{settings.name}: its {described(key)}"
    revoked = [f"{line.file}:{line.number}" for line in lines if line.revokes(text)]
    if revoked or _in_revoked_file(settings, key):
        raise HostKeyError(f"{place} is revoked by {(*revoked, settings.revoked)[0]}")
    plain = [line for line in lines if not line.marker]
    known = next((line for line in plain if line.key == text), None)
    if known:
        return known
    if plain:
        where = ", ".join(f"{line.file}:{line.number} ({line.kind})" for line in plain)
        forget = shlex.join(["ssh-keygen", "-R", settings.name, "-f", plain[0].file])
        raise HostKeyError(
            f"{place} is not the one in {where}: somebody may sit in between, or the host was set "
            f"up anew: when you are sure, {forget} and {typed.task('remote.trust')}"
        )
    trust = typed.task("remote.trust", environment=environment)
    also = "".join(
        f" ({line.file}:{line.number} trusts certificates, which are not read here)"
        for line in lines
        if line.marker == "@cert-authority"
    )
    raise UnknownHostKey(f"{place} is unknown{also}: {trust} trusts it")


def described(key: paramiko.PKey) -> str:
    """Return the type and fingerprint of a key."""
    return f"{key.get_name()} key {fingerprint(key)}"


def _in_revoked_file(settings: Settings, key: paramiko.PKey) -> bool:
    if not settings.revoked:
        return False
    try:
        content = Path(settings.revoked).read_bytes()
    except OSError as exc:
        raise HostKeyError(f"RevokedHostKeys {settings.revoked}: {exc.strerror}") from None
    if content.startswith(b"SSHKRL\n"):
        return _in_krl(settings.revoked, key)
    return key.get_base64().encode() in content


def _in_krl(path: str, key: paramiko.PKey) -> bool:
    """Return whether a binary revocation list revokes a key, by ssh-keygen."""
    with tempfile.NamedTemporaryFile("w", suffix=".pub") as public:
        public.write(f"{key.get_name()} {key.get_base64()}\n")
        public.flush()
        argv = ["ssh-keygen", "-Q", "-f", path, public.name]
        try:
            done = child.captured(argv, seconds=_WAIT)
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise HostKeyError(f"RevokedHostKeys {path}: ssh-keygen: {exc}") from None
    if done.returncode != 0 and "REVOKED" not in done.stdout:
        raise HostKeyError(f"RevokedHostKeys {path}: {done.stderr.strip() or 'not read'}")
    return done.returncode != 0


class Policy(paramiko.MissingHostKeyPolicy):
    """Check the host's key with the files; paramiko itself has none, so it always calls this."""

    def __init__(self, settings: Settings, environment: str) -> None:
        self.settings, self.environment = settings, environment

    def missing_host_key(
        self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey
    ) -> None:
        """Raise HostKeyError unless the key is known."""
        check(self.settings, key, environment=self.environment)


def trust(settings: Settings, key: paramiko.PKey) -> Path:
    """Append a host's key to the known_hosts file and return the file, raising PgtasksError."""
    path = trusted_file(settings)
    name = settings.name.lower()
    name = paramiko.HostKeys.hash_host(name) if settings.hashed else name
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "r+b") as file:
            text = file.read()
            apart = b"" if not text or text.endswith(b"\n") else b"\n"
            file.write(apart + f"{name} {key.get_name()} {key.get_base64()}\n".encode())
    except OSError as exc:
        raise PgtasksError(f"cannot write {str(path)!r}: {exc.strerror}") from None
    return path

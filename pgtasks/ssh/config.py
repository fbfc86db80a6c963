"""What OpenSSH's own configuration says of a host.

OpenSSH itself is asked (`ssh -G`), so that Include, Match, patterns and defaults count as they do
for `ssh`. paramiko's parser, which ignores Include in silence, only serves where there is no ssh.
"""

from __future__ import annotations

import getpass
import os
import pwd
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pgtasks.errors import BadConfiguration
from pgtasks.ssh import login
from pgtasks.ssh.login import Login

_WAIT = 20  # seconds; a `Match exec` in the configuration may take its time
_SSH = Path("~/.ssh")
# what changes how a host is reached and is not applied here, by ssh -G's names and its defaults
_NOT_APPLIED = {
    "bindaddress": "",
    "bindinterface": "",
    "addressfamily": "any",
    "pkcs11provider": "none",
    "forwardagent": "no",
}


@dataclass(frozen=True)
class Settings:
    """A host as ssh would reach it. `name` is what its key is looked up by.

    `jumps` are the hosts to go through, the first one first; `unapplied` what is configured and
    has no effect here.
    """

    host: str
    port: int
    user: str
    name: str
    identities: tuple[str, ...] = ()
    identities_only: bool = False
    agent: str = ""
    known_hosts: tuple[str, ...] = ()
    jumps: tuple[str, ...] = ()
    proxy_command: str = ""
    revoked: str = ""
    unapplied: tuple[str, ...] = ()

    def __str__(self) -> str:
        return str(Login(self.host, self.user, self.port))


def settings(wanted: Login) -> Settings:
    """Return how to reach a host: the login's own words, and what the configuration adds."""
    said, unread = _asked(wanted) if shutil.which("ssh") else _parsed(wanted)
    one = {key: values[0] for key, values in said.items()}
    host = one.get("hostname", wanted.host)
    port = int(one.get("port", login.PORT))
    jumps = wanted.jump or one.get("proxyjump", "none")
    alias = one.get("hostkeyalias", "")
    proxy = one.get("proxycommand", "none")
    return Settings(
        host=host,
        port=port,
        user=one.get("user") or getpass.getuser(),
        name=alias or (host if port == login.PORT else f"[{host}]:{port}"),
        identities=_paths([wanted.identity] if wanted.identity else said.get("identityfile", [])),
        identities_only=bool(wanted.identity) or one.get("identitiesonly") == "yes",
        agent=one.get("identityagent", "SSH_AUTH_SOCK"),
        known_hosts=_paths([wanted.known_hosts] if wanted.known_hosts else _known_hosts(one)),
        jumps=() if jumps == "none" else tuple(part.strip() for part in jumps.split(",")),
        proxy_command="" if wanted.jump or proxy == "none" else proxy,
        revoked=one.get("revokedhostkeys", "none").replace("none", ""),
        unapplied=(*unread, *_unapplied(one)),
    )


def trusted_file(wanted: Settings) -> Path:
    """Return the file that a newly trusted key goes into."""
    return Path(wanted.known_hosts[0] if wanted.known_hosts else _SSH / "known_hosts").expanduser()


def _asked(wanted: Login) -> tuple[Mapping[str, list[str]], Sequence[str]]:
    """Return what `ssh -G` prints, by key."""
    argv = ["ssh", *_file_option(), "-G"]
    argv += ["-l", wanted.user] if wanted.user else []
    argv += ["-p", str(wanted.port)] if wanted.port else []
    try:
        done = subprocess.run(
            [*argv, "--", wanted.host],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_WAIT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise BadConfiguration(f"ssh -G {wanted.host}: {exc}") from None
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()
        raise BadConfiguration(f"ssh -G {wanted.host}: {words[0] if words else 'failed'}")
    return _by_key(done.stdout.splitlines()), ()


def _file_option() -> list[str]:
    """Return what makes ssh read the configuration of HOME, which it ignores."""
    account = pwd.getpwuid(os.getuid()).pw_dir if _known_account() else ""
    if Path(account) == Path("~").expanduser():
        return []
    own = (_SSH / "config").expanduser()
    return ["-F", str(own) if own.exists() else "none"]


def _known_account() -> bool:
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:  # a container's user without an entry in /etc/passwd
        return False
    return True


def _by_key(lines: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in lines:
        key, _, value = line.partition(" ")
        found.setdefault(key, []).append(value)
    return found


def _parsed(wanted: Login) -> tuple[Mapping[str, list[str]], Sequence[str]]:
    """Return what paramiko's parser finds, and what it leaves out."""
    from paramiko import SSHConfig

    own = (_SSH / "config").expanduser()
    text = own.read_text("utf-8", "replace") if own.is_file() else ""
    found = SSHConfig.from_text(text).lookup(wanted.host)
    said = {key: value if isinstance(value, list) else [value] for key, value in found.items()}
    for key, value in (("user", wanted.user), ("port", str(wanted.port or ""))):
        if value:
            said[key] = [value]
    keys = [path for path in sorted(_SSH.expanduser().glob("id_*")) if path.suffix != ".pub"]
    said.setdefault("identityfile", list(map(str, keys)))
    lines = map(str.strip, text.splitlines())
    includes = [line for line in lines if line.lower().startswith("include ")]
    return said, [f"{line} (there is no ssh program to ask)" for line in includes]


def _paths(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(Path(name).expanduser()) for name in names if name != "none")


def _known_hosts(one: Mapping[str, str]) -> list[str]:
    both = f"{one.get('userknownhostsfile', _SSH / 'known_hosts')}"
    both += f" {one.get('globalknownhostsfile', '/etc/ssh/ssh_known_hosts')}"
    return shlex.split(both)


def _unapplied(one: Mapping[str, str]) -> list[str]:
    return [
        f"{key} {one[key]}" for key, usual in _NOT_APPLIED.items() if one.get(key, usual) != usual
    ]

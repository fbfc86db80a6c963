"""Read OpenSSH's configuration of a host.

`ssh -G` reads it, so that Include, Match, patterns and defaults have the same effect as for `ssh`.
paramiko's parser, which silently ignores Include, is used only if there is no ssh.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pgtasks.errors import BadConfiguration
from pgtasks.host import child
from pgtasks.report import account
from pgtasks.settings import ssh
from pgtasks.settings.ssh import Login

_WAIT = 20  # seconds; a `Match exec` in the configuration may take its time
_SSH = Path("~/.ssh")
# options that would change the connection and are not supported here: names of `ssh -G`, and values
# without effect
_NOT_APPLIED = {
    "addressfamily": ("any",),
    "bindaddress": ("",),
    "bindinterface": ("",),
    "connecttimeout": ("none",),  # that of the environment is used
    "certificatefile": ("",),
    "forwardagent": ("no",),
    "knownhostscommand": ("none",),
    "localcommand": ("",),
    "pkcs11provider": ("none",),
    "pubkeyauthentication": ("true", "yes"),
    # an unknown key is never accepted silently
    "stricthostkeychecking": ("ask", "true", "yes"),
    "verifyhostkeydns": ("false", "no"),
}
# names of `ssh -G`, and those of paramiko
_ALGORITHMS = {
    "ciphers": "ciphers",
    "macs": "digests",
    "kexalgorithms": "kex",
    "hostkeyalgorithms": "key_types",
}
# several files, such as known_hosts, as `ssh -G` prints them: not quoted
_NEXT_PATH = re.compile(r"\s+(?=[/~%$])")


@dataclass(frozen=True)
class Settings:
    """The settings for the connection to a host.

    Its key is looked up by `name`, else by `plain`, the name without the port. `known_hosts` are
    the files of this user, `shared_hosts` those of the system; `hashed` means that names are
    written as hashes. `jumps` are the jump hosts in order; `algorithms` the allowed ones by kind;
    `unapplied` are configured options without effect here.
    """

    host: str
    port: int
    user: str
    name: str
    plain: str = ""
    identities: tuple[str, ...] = ()
    identities_only: bool = False
    agent: str = ""
    known_hosts: tuple[str, ...] = ()
    shared_hosts: tuple[str, ...] = ()
    hashed: bool = False
    jumps: tuple[str, ...] = ()
    proxy_command: str = ""
    revoked: str = ""
    algorithms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unapplied: tuple[str, ...] = ()

    def __str__(self) -> str:
        return str(Login(self.host, self.user, self.port))


def settings(wanted: Login) -> Settings:
    """Return the settings for a host: those of the login, completed from the configuration."""
    answers, unread = _asked(wanted) if shutil.which("ssh") else _parsed(wanted)
    first_values = {key: values[0] for key, values in answers.items() if values}
    host, user = (
        first_values.get("hostname", wanted.host),
        first_values.get("user") or account.name(),
    )
    port = int(first_values.get("port", ssh.PORT))
    alias = first_values.get("hostkeyalias", "")
    tokens = _tokens(wanted.host, host, port, user, alias)
    identities = _paths(answers.get("identityfile", []), tokens)
    known = _paths(_known_hosts(first_values, "user"), tokens)
    shared = _paths(_known_hosts(first_values, "global"), tokens)
    jumps = wanted.jump or _expanded(first_values.get("proxyjump", "none"), tokens)
    proxy = "none" if wanted.jump else first_values.get("proxycommand", "none")
    return Settings(
        host=host,
        port=port,
        user=user,
        name=alias or _name(host, port),
        plain="" if alias else host,
        identities=(wanted.identity,) if wanted.identity else identities,
        identities_only=bool(wanted.identity) or first_values.get("identitiesonly") == "yes",
        agent=_expanded(first_values.get("identityagent", "SSH_AUTH_SOCK"), tokens),
        known_hosts=(wanted.known_hosts,) if wanted.known_hosts else known,
        shared_hosts=() if wanted.known_hosts else shared,
        hashed=first_values.get("hashknownhosts") == "yes" and not wanted.known_hosts,
        jumps=() if jumps == "none" else tuple(part.strip() for part in jumps.split(",")),
        proxy_command="" if proxy == "none" else _expanded(proxy, tokens),
        revoked="".join(_paths([first_values.get("revokedhostkeys", "none")], tokens)),
        algorithms={
            kind: tuple(first_values[key].split(","))
            for key, kind in _ALGORITHMS.items()
            if key in first_values
        },
        unapplied=(*unread, *_unapplied(first_values)),
    )


def _name(host: str, port: int) -> str:
    return host if port == ssh.PORT else f"[{host}]:{port}"


def _tokens(original: str, host: str, port: int, user: str, alias: str) -> Mapping[str, str]:
    """Return the values of the tokens of ssh_config(5)."""
    here = socket.gethostname()
    tokens = {"%": "%", "d": str(Path("~").expanduser()), "h": host, "n": original, "p": str(port)}
    tokens |= {"r": user, "u": account.name(), "i": str(os.getuid()), "k": alias or original}
    return tokens | {"l": here, "L": here.partition(".")[0]}


def _expanded(text: str, tokens: Mapping[str, str]) -> str:
    return re.sub("%(.)", lambda match: tokens.get(match[1], match[0]), text)


def trusted_file(wanted: Settings) -> Path:
    """Return the file for newly trusted keys, raising BadConfiguration."""
    if not wanted.known_hosts:
        raise BadConfiguration(
            f"{wanted.name}: there is no file for its key, because UserKnownHostsFile is none, "
            "name one in ssh.known_hosts"
        )
    return Path(wanted.known_hosts[0])


def below_home(path: str) -> str:
    """Return a path with ~ for the home folder: ~/.ssh/known_hosts."""
    home = str(Path("~").expanduser())
    return f"~{path[len(home) :]}" if path.startswith(f"{home}/") else path


def _asked(wanted: Login) -> tuple[Mapping[str, list[str]], Sequence[str]]:
    """Return the output of `ssh -G` by key."""
    files = _files()
    argv = ["ssh", *(["-F", "/dev/stdin"] if files else []), "-G"]
    argv += ["-l", wanted.user] if wanted.user else []
    argv += ["-p", str(wanted.port)] if wanted.port else []
    try:
        done = child.captured([*argv, "--", wanted.host], input=files, seconds=_WAIT)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise BadConfiguration(f"ssh -G {wanted.host}: {exc}") from None
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()
        raise BadConfiguration(f"ssh -G {wanted.host}: {words[0] if words else 'failed'}")
    return _by_key(done.stdout.splitlines()), ()


def _files() -> str:
    """Return a configuration that includes that of HOME, if ssh would use another home folder."""
    if _account_home() == Path("~").expanduser():
        return ""
    own = (_SSH / "config").expanduser()
    return f'Include "{own}"\nInclude /etc/ssh/ssh_config\n'


def _account_home() -> Path | None:
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # a container's user without an entry in /etc/passwd
        return None


def _by_key(lines: Sequence[str]) -> dict[str, list[str]]:
    by_key: dict[str, list[str]] = {}
    for line in lines:
        key, _, value = line.partition(" ")
        by_key.setdefault(key, []).append(value)
    return by_key


def _parsed(wanted: Login) -> tuple[Mapping[str, list[str]], Sequence[str]]:
    """Return the result of paramiko's parser, and the lines that it ignores."""
    from paramiko import SSHConfig
    from paramiko.ssh_exception import ConfigParseError, CouldNotCanonicalize

    own = (_SSH / "config").expanduser()
    text = own.read_text("utf-8", "replace") if own.is_file() else ""
    try:
        options = SSHConfig.from_text(text).lookup(wanted.host)
    except (ConfigParseError, CouldNotCanonicalize, ValueError) as exc:
        raise BadConfiguration(f"{own}: {exc}") from None
    answers = {key: value if isinstance(value, list) else [value] for key, value in options.items()}
    for key, value in (("user", wanted.user), ("port", str(wanted.port or ""))):
        if value:
            answers[key] = [value]
    keys = [path for path in sorted(_SSH.expanduser().glob("id_*")) if path.suffix != ".pub"]
    answers.setdefault("identityfile", list(map(str, keys)))
    lines = map(str.strip, text.splitlines())
    includes = [line for line in lines if line.lower().startswith("include ")]
    return answers, [f"{line} (there is no ssh program to ask)" for line in includes]


def _paths(names: Sequence[str], tokens: Mapping[str, str]) -> tuple[str, ...]:
    """Return the paths, with `~`, %d and ${HOME} expanded."""
    expanded = (_expanded(name, tokens) for name in names if name not in ("", "none"))
    return tuple(str(Path(os.path.expandvars(name)).expanduser()) for name in expanded)


def _known_hosts(values: Mapping[str, str], of: str) -> list[str]:
    """Return the files of `user` or `global` known hosts; ~ is HOME, as everywhere."""
    usual = {"user": str(_SSH / "known_hosts"), "global": "/etc/ssh/ssh_known_hosts"}
    account = _account_home()
    files = _NEXT_PATH.split(values.get(f"{of}knownhostsfile", usual[of]))
    if account:
        start = f"{account}/.ssh/"
        files = [f"{_SSH}/{f.removeprefix(start)}" if f.startswith(start) else f for f in files]
    return files


def _unapplied(values: Mapping[str, str]) -> list[str]:
    options = {key: values.get(key, usual[0]) for key, usual in _NOT_APPLIED.items()}
    return [f"{key} {value}" for key, value in options.items() if value not in _NOT_APPLIED[key]]

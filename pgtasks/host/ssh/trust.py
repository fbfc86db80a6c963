"""Trust the keys of a host and its jump hosts, if a person says so."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pgtasks.errors import Refused
from pgtasks.host.ssh import hostkeys
from pgtasks.host.ssh.config import Settings, below_home, trusted_file
from pgtasks.host.ssh.hostkeys import HostKeyError, UnknownHostKey
from pgtasks.host.ssh.route import Route
from pgtasks.report import CONSOLE, is_yes
from pgtasks.report.interruption import telling_files, unanswered
from pgtasks.settings.ssh import Login
from pgtasks.settings.target import Target

_TOLD = re.compile(r"(?:(?P<host>[^=]+)=)?(?P<print>(?:SHA256:)?[A-Za-z0-9+/]{43}=?)")


@dataclass(frozen=True)
class PresentedKey:
    """The key that a host presents; `file` contains it once it is trusted."""

    host: str
    name: str
    kind: str
    fingerprint: str
    file: str = ""
    new: bool = False

    def __str__(self) -> str:
        return f"{self.name}: {self.kind} key {self.fingerprint}"


class Judge(Protocol):
    """Decides whether to trust an unknown key."""

    def __call__(self, key: PresentedKey, hosts: Sequence[Settings]) -> None:
        """Raise Refused or Unreachable if the key is not trusted.

        `hosts` are all hosts on the way, because each could answer for another.
        """


@dataclass
class Trusted:
    """The keys of all hosts on the way, ending at the destination.

    A plan (`dry`) ends at the first unknown key, because that host is not logged in to.
    """

    keys: list[PresentedKey] = field(default_factory=list)
    dry: bool = False

    def lines(self) -> list[str]:
        """Return what a person reads."""
        now = "would be trusted" if self.dry else "is trusted now"
        return [
            f"{key} {now if key.new else 'was known already'}: {below_home(key.file)}"
            for key in self.keys
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"keys": [vars(key) for key in self.keys]}


def trust(login: Login, judge: Judge | None, *, environment: str = "") -> Trusted:
    """Let the judge decide on every unknown key on the way, and store the trusted ones.

    Without a judge, as in a plan, nothing is stored. The key of the next host requires a login to
    the jump host before it. Raises Unreachable for a key that differs from the known one, which is
    not replaced.
    """
    done = Trusted(dry=judge is None)
    with (
        Route(login, environment=environment) as route,
        telling_files(lambda: _files(route.hosts), lambda path: below_home(str(path))),
    ):
        for settings in route.hosts:
            done.keys.append(_judged(route, settings, judge))
            if done.dry and done.keys[-1].new:
                break
            if settings is not route.hosts[-1]:
                route.enter(settings)
    return done


def _files(hosts: Sequence[Settings]) -> set[Path]:
    return {trusted_file(each) for each in hosts if each.known_hosts}


def _judged(route: Route, settings: Settings, judge: Judge | None) -> PresentedKey:
    key = route.presented(settings)
    kind, print_ = key.get_name(), hostkeys.fingerprint(key)
    try:
        line = hostkeys.check(settings, key)
    except UnknownHostKey:
        shown = PresentedKey(str(settings), settings.name, kind, print_)
        if judge:
            judge(shown, route.hosts)
        path = hostkeys.trust(settings, key) if judge else trusted_file(settings)
        return PresentedKey(str(settings), settings.name, kind, print_, str(path), new=True)
    return PresentedKey(str(settings), settings.name, kind, print_, f"{line.file}:{line.number}")


def judge(target: Target, fingerprints: Sequence[str], *, yes: bool) -> Judge:
    """Return the judge for a target's host: fingerprints, --yes, a person, or nobody.

    Raises Refused for --yes on a protected environment.
    """
    if fingerprints:
        return _matching(fingerprints)
    if yes and target.protected:
        raise Refused(
            f"environment {target.environment!r} is protected, --yes does not trust its host: "
            "add --fingerprint"
        )
    if yes:
        return lambda key, hosts: None
    return _asked if CONSOLE.interactive else _unanswered(protected=target.protected)


def _matching(fingerprints: Sequence[str]) -> Judge:
    """Return a judge that accepts a key only by a fingerprint for its own host."""
    pairs = [_told(text) for text in fingerprints]

    def judge(key: PresentedKey, hosts: Sequence[Settings]) -> None:
        wanted = {_bare(print_) for host, print_ in pairs if _meant(host, hosts) == key.name}
        if _bare(key.fingerprint) not in wanted:
            raise HostKeyError(f"{key} has no fingerprint that was given for it: it is not trusted")

    return judge


def _told(text: str) -> tuple[str, str]:
    """Return host and fingerprint of `HOST=SHA256:...`; the host may be empty."""
    match = _TOLD.fullmatch(text.strip())
    if match is None:
        raise Refused(f"--fingerprint {text!r}, expected SHA256:... or HOST=SHA256:...")
    return match["host"] or "", match["print"]


def _meant(host: str, hosts: Sequence[Settings]) -> str:
    """Return the host of a fingerprint, raising Refused if it is not unique."""
    names = ", ".join(each.name for each in hosts)
    if not host and len(hosts) == 1:
        return hosts[0].name
    if not host:
        raise Refused(
            f"several hosts are on the way ({names}), each has its own key: "
            f"say --fingerprint {hosts[-1].name}=SHA256:..."
        )
    matching = {each.name for each in hosts if host.lower() in _names(each)}
    if len(matching) != 1:
        raise Refused(f"--fingerprint of {host!r}, expected one of {names}")
    return matching.pop()


def _names(host: Settings) -> set[str]:
    return {host.name.lower(), host.host.lower(), str(host).lower()}


def _bare(fingerprint: str) -> str:
    return fingerprint.strip().removeprefix("SHA256:").rstrip("=")


def _asked(key: PresentedKey, hosts: Sequence[Settings]) -> None:
    CONSOLE.say(f"{key}")
    CONSOLE.say("compare it with what the host's administrator says (there: ssh-keygen -l -f KEY)")
    with unanswered():
        answer = CONSOLE.ask("trust it? [y/N] ")
    if not is_yes(answer) and _bare(answer) != _bare(key.fingerprint):
        raise Refused(f"the key of {key.name} is not trusted, nothing was written")


def _unanswered(*, protected: bool) -> Judge:
    also = "" if protected else " or --yes"

    def judge(key: PresentedKey, hosts: Sequence[Settings]) -> None:
        host = f"{key.name}=" if len(hosts) > 1 else ""
        raise Refused(
            f"{key} is unknown, and there is no terminal to ask on: when it is what the host's "
            f"administrator says, add --fingerprint {host}{key.fingerprint}{also}"
        )

    return judge

"""pg_amcheck on the restored database: the structure of its tables and B-tree indexes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from pgtasks.errors import Failed
from pgtasks.host import tools
from pgtasks.host.base import Command, Host
from pgtasks.host.pipeline import Pipeline
from pgtasks.server import connection
from pgtasks.settings.target import Target

_CORRUPT = 2  # exit code of pg_amcheck that found something
_POLL = 0.2
_SHOWN = 5  # lines of what it found
_READ = 1 << 16  # bytes of its output that are read
_EXTENSION = "amcheck"


@dataclass(frozen=True)
class Checked:
    """The result of pg_amcheck: the first lines of what it found, or why it did not run."""

    ran: bool
    found: tuple[str, ...] = ()
    why_not: str = ""
    seconds: float = 0.0

    def fact(self) -> str:
        """Return the result in one line."""
        if not self.ran:
            return f"pg_amcheck did not run: {self.why_not}"
        return "pg_amcheck found damage" if self.found else "pg_amcheck found nothing"

    def lines(self) -> Iterator[str]:
        """Yield what a person reads."""
        yield self.fact()
        for line in self.found:
            yield f"  {line}"

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "ran": self.ran,
            "found": list(self.found),
            "why_not": self.why_not,
            "seconds": round(self.seconds, 3),
        }


def run(superuser: Target | None, host: Host, side: str, *, jobs: int) -> Checked:
    """Check a database, which gets the extension amcheck for that."""
    if superuser is None:
        return Checked(ran=False, why_not="it needs a superuser")
    with connection.session(superuser, read_only=True, purpose="backup.drill") as conn:
        major = conn.server_version // 10000
        query = "SELECT count(*) > 0 FROM pg_available_extensions WHERE name = %s"
        if not connection.value(conn, query, (_EXTENSION,), into=bool):
            return Checked(ran=False, why_not=f"the server lacks the extension {_EXTENSION}")
    program = _program(host, superuser, major)
    if not program:
        return Checked(ran=False, why_not="the program is not installed")
    try:
        return _run(program, host, superuser.at(side), jobs)
    except Failed as exc:  # what it finds is no error of its own
        return Checked(ran=False, why_not=exc.hint.strip().partition("\n")[0] or exc.message)


def _program(host: Host, target: Target, major: int) -> str:
    """Return the path of pg_amcheck on a host, preferably of the server's major, or nothing."""
    toolsets = tools.available(host, target)
    nearest = sorted(toolsets, key=lambda each: (each.major < major, abs(each.major - major)))
    paths = [each.tool("pg_amcheck") for each in nearest if each.major >= 14]
    script = 'for each; do [ -x "$each" ] && echo "$each" && break; done; :'
    named = host.capture(Command(("/bin/sh", "-c", script, "sh", *paths))).strip()
    return named if PurePath(named) in map(PurePath, paths) else ""


def _run(program: str, host: Host, target: Target, jobs: int) -> Checked:
    began = time.monotonic()
    # --install-missing creates the extension in pg_catalog, where no code of the backup is found
    argv = (program, "--install-missing", "--no-password", f"--jobs={jobs}")
    with host.passfile(target) as passfile, tempfile.TemporaryFile() as output:
        command = Command(argv, _environment(target, host, passfile))
        with Pipeline(host, [command], stdout=output) as running:
            while not running.wait(_POLL):
                pass  # in slices, so that a signal is heard
            if running.codes != [_CORRUPT]:
                running.check()
                return Checked(ran=True, seconds=time.monotonic() - began)
        output.seek(0)
        lines = output.read(_READ).decode(errors="replace").splitlines()
    found = tuple(line for line in lines if line.strip())[:_SHOWN]
    return Checked(True, found or ("it names nothing",), seconds=time.monotonic() - began)


def _environment(target: Target, host: Host, passfile: str) -> dict[str, str]:
    env = tools.environment(host.view(target), passfile)
    return {**env, "PGOPTIONS": f"{env.get('PGOPTIONS', '')}{connection.of_programs(target)}"}

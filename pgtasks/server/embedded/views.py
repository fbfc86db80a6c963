"""The output of tasks about embedded servers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtasks.report import typed
from pgtasks.server.embedded.programs import Binaries
from pgtasks.server.embedded.server import EmbeddedServer, servers


def states(projects: Iterable[Path]) -> str:
    """Return which servers of some projects run, in words."""
    found = [each for project in projects for each in servers(project)]
    said = (f"PostgreSQL {each.major} {'runs' if each.pid else 'does not run'}" for each in found)
    return ", ".join(said) or "there is no server"


@dataclass(frozen=True)
class Overview:
    """The servers of a project, and the installed binaries."""

    servers: tuple[EmbeddedServer, ...]
    binaries: tuple[Binaries, ...]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        shown = [line for server in self.servers for line in server.lines()]
        names = (
            ", ".join(f"{binaries.major} ({binaries.origin})" for binaries in self.binaries)
            or "none"
        )
        return [
            *(shown or [f"no server yet: {typed.task('server.start')} creates one"]),
            f"installed: {names}",
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            "servers": [server.as_json() for server in self.servers],
            "binaries": [
                {"major": binaries.major, "bin": str(binaries.bin), "origin": binaries.origin}
                for binaries in self.binaries
            ],
        }


@dataclass(frozen=True)
class Stopped:
    """The servers that were stopped, the folders that were deleted; under `dry`, would be."""

    servers: tuple[EmbeddedServer, ...]
    forgotten: tuple[Path, ...] = ()
    sessions: tuple[str, ...] = ()
    dry: bool = False

    def lines(self) -> list[str]:
        """Return what a person reads."""
        done = "would be stopped" if self.dry else "stopped"
        shown = [f"PostgreSQL {server.major}: {done} (pid {server.pid})" for server in self.servers]
        deleted = "would be deleted" if self.dry else "deleted"
        gone = [f"the tests' server: {str(folder)!r} {deleted}" for folder in self.forgotten]
        end = "would end" if self.dry else "ended"
        shown += [f"{end} {each}" for each in self.sessions]
        return [*(shown or ["no server is running"]), *gone]

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        stop, delete = ("would_stop", "would_delete") if self.dry else ("stopped", "deleted")
        servers = [{"major": server.major, "pid": server.pid} for server in self.servers]
        folders = [str(folder) for folder in self.forgotten]
        return {stop: servers, delete: folders, "sessions": list(self.sessions)}

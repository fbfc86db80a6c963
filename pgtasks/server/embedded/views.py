"""The output of tasks about embedded servers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pgtasks.report import typed
from pgtasks.server.embedded.programs import Binaries
from pgtasks.server.embedded.server import EmbeddedServer


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
    """The servers that were stopped; under `dry`, that would be stopped."""

    servers: tuple[EmbeddedServer, ...]
    dry: bool = False

    def lines(self) -> list[str]:
        """Return what a person reads."""
        done = "would be stopped" if self.dry else "stopped"
        shown = [f"PostgreSQL {server.major}: {done} (pid {server.pid})" for server in self.servers]
        return shown or ["no server is running"]

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        key = "would_stop" if self.dry else "stopped"
        return {key: [{"major": server.major, "pid": server.pid} for server in self.servers]}

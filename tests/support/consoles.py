"""A console that nobody reads."""

from __future__ import annotations

from dataclasses import dataclass, field

from pgtasks.report import Console


@dataclass(frozen=True)
class Recorder(Console):
    """Keep what is said; show no progress."""

    quiet: bool = True
    lines: list[str] = field(default_factory=list)

    def say(self, line: str = "") -> None:
        """Keep a line."""
        self.lines.append(line)

"""What was found out about a backup since it was made: a file of its own beside the manifest."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from msgspec import Struct

from pgtasks.backup.format import names
from pgtasks.errors import NotProven
from pgtasks.host import decoding, plainfile
from pgtasks.host.decoding import Moment

_DAMAGE = 4_000  # characters of it that are kept


@dataclass(frozen=True)
class Checks:
    """When a backup was last found intact, damaged, proven (UTC, as the journal writes it)."""

    intact: str | None = None
    proven: str | None = None
    damaged: str | None = None
    damage: str = ""

    @classmethod
    def read(cls, folder: Path) -> Checks:
        """Return the checks of a backup; one whose file cannot be read counts as never checked."""
        try:
            return cls.parse(plainfile.read(folder, names.CHECKS, limit=names.LIMITS[names.CHECKS]))
        except (OSError, NotProven):
            return cls()

    @classmethod
    def parse(cls, content: bytes) -> Checks:
        """Return the checks that a file holds, raising NotProven for anything else."""
        decoded = decoding.decode(content, _Checks, names.CHECKS)
        return cls(decoded.intact, decoded.proven, decoded.damaged, decoded.damage)

    def text(self) -> str:
        """Return them as they are written."""
        return json.dumps({**asdict(self), "damage": self.damage[:_DAMAGE]}) + "\n"

    def write(self, folder: Path) -> None:
        """Replace the checks of a backup; raises OSError where the folder cannot be written."""
        plainfile.replace(folder, names.CHECKS, self.text().encode())


class _Checks(Struct):
    intact: Moment | None = None
    proven: Moment | None = None
    damaged: Moment | None = None
    damage: str = ""

"""The checks of a backup since its creation, in a file beside the manifest."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from msgspec import Struct

from pgtasks.backup.format import names
from pgtasks.errors import NotProven
from pgtasks.host import decoding, plainfile
from pgtasks.host.decoding import Moment

_DAMAGE = 4_000  # characters of the damage that are kept


@dataclass(frozen=True)
class Checks:
    """When a backup was last found intact, damaged or proven (UTC, as in the journal)."""

    intact: str | None = None
    proven: str | None = None
    damaged: str | None = None
    damage: str = ""

    @classmethod
    def read(cls, folder: Path) -> Checks:
        """Return the checks of a backup; none if their file cannot be read."""
        try:
            return cls.parse(plainfile.read(folder, names.CHECKS, limit=names.LIMITS[names.CHECKS]))
        except (OSError, NotProven):
            return cls()

    @classmethod
    def parse(cls, content: bytes) -> Checks:
        """Parse the content of the file, raising NotProven for anything else."""
        decoded = decoding.decode(content, _Checks, names.CHECKS)
        return cls(decoded.intact, decoded.proven, decoded.damaged, decoded.damage)

    def text(self) -> str:
        """Return the content of the file."""
        return json.dumps({**asdict(self), "damage": self.damage[:_DAMAGE]}) + "\n"

    def write(self, folder: Path) -> None:
        """Replace the file in a folder; raises OSError if it cannot be written."""
        plainfile.replace(folder, names.CHECKS, self.text().encode())


class _Checks(Struct):
    intact: Moment | None = None
    proven: Moment | None = None
    damaged: Moment | None = None
    damage: str = ""

"""The checks of a backup since its creation, in a file beside the manifest."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pgtasks.backup.format import names
from pgtasks.errors import NotProven
from pgtasks.host import decoding, plainfile
from pgtasks.host.decoding import Moment, Seconds

_TEXTS = ("damage", "failure")
_LONGEST = 4_000  # characters of a text that are kept


@dataclass(frozen=True)
class Checks:
    """When a backup was last found intact, damaged or proven (UTC, as in the journal).

    `drilled` is the last drill that found nothing, `recovery` the seconds that its restore took.
    `failed` is the last drill or proof if it failed, `failure` says why.
    """

    intact: Moment | None = None
    proven: Moment | None = None
    damaged: Moment | None = None
    damage: str = ""
    proven_by: str = ""
    drilled: Moment | None = None
    recovery: Seconds | None = None
    failed: Moment | None = None
    failure: str = ""

    @classmethod
    def read(cls, folder: Path) -> Checks:
        """Return the checks of a backup; none if their file cannot be read."""
        try:
            return cls.parse(plainfile.read(folder, names.CHECKS, limit=names.LIMITS[names.CHECKS]))
        except (OSError, NotProven):
            return cls()

    @classmethod
    def parse(cls, content: bytes) -> Checks:
        """Parse the content of the file, raising NotProven for anything else.

        A file of another version may lack keys, and have more, which are ignored.
        """
        return decoding.decode(content, cls, names.CHECKS)

    def text(self) -> str:
        """Return the content of the file."""
        document = asdict(self)
        document.update({key: document[key][:_LONGEST] for key in _TEXTS})
        return json.dumps(document) + "\n"

    def write(self, folder: Path) -> None:
        """Replace the file in a folder; raises OSError if it cannot be written."""
        plainfile.replace(folder, names.CHECKS, self.text().encode())

"""What people and comparisons say about keeping a backup, in a file beside the manifest.

It is a file of its own, because a check that takes hours writes the file of checks at its end, as
it was when it began.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from pgtasks.backup.format import names
from pgtasks.errors import NotProven
from pgtasks.host import decoding, plainfile
from pgtasks.host.decoding import Moment

LONGEST = 1_000  # characters of a reason
Text = Annotated[str, Meta(max_length=LONGEST)]


@dataclass(frozen=True)
class Retention:
    """Since when a backup is kept by hand, and what it has lost (times in UTC).

    `loss` is what was missing against the previous backup when this one was made. It stops
    backup.prune until somebody has acknowledged it.
    """

    kept: Moment | None = None
    why: Text = ""
    kept_by: Text = ""
    loss: Text = ""
    acknowledged: Moment | None = None
    acknowledged_by: Text = ""

    @classmethod
    def read(cls, folder: Path) -> Retention:
        """Return what the file in a folder says, raising NotProven if it cannot be read.

        Without the file nothing is said.
        """
        try:
            limit = names.LIMITS[names.RETENTION]
            return cls.parse(plainfile.read(folder, names.RETENTION, limit=limit))
        except FileNotFoundError:
            return cls()
        except OSError as exc:
            raise NotProven(f"{names.RETENTION}: {exc.strerror}") from None

    @classmethod
    def parse(cls, content: bytes) -> Retention:
        """Parse the content of the file, raising NotProven for anything else."""
        return decoding.decode(content, cls, names.RETENTION)

    @property
    def stops(self) -> bool:
        """Whether it stops backup.prune."""
        return bool(self.loss) and self.acknowledged is None

    def text(self) -> str:
        """Return the content of the file."""
        return json.dumps(asdict(self)) + "\n"

    def write(self, folder: Path) -> None:
        """Replace the file in a folder; raises OSError if it cannot be written."""
        plainfile.replace(folder, names.RETENTION, self.text().encode())

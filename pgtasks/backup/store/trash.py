"""The trash of a database: the folder .trash beside its backups, with those that were dropped.

The name of a folder in it has the ID and the time when it was dropped, so that one rename moves
and records. A folder that is being removed gets a hidden name first, so that no part of a backup
can be brought back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone

from pgtasks.backup.format.manifest import ID

FOLDER = ".trash"
LOCK = ".lock"  # the beginning of its name
_TIME = "%Y%m%dT%H%M%SZ"
_2 = "([0-9]{2})"
_NAME = re.compile(rf"({ID})\.dropped-([0-9]{{4}}){_2}{_2}T{_2}{_2}{_2}Z", re.ASCII)
_REMOVING = re.compile(r"\.(.*)\.removing", re.DOTALL)


@dataclass(frozen=True)
class Trashed:
    """A dropped backup; `home` are the folders of environment and database, `place` its path.

    `removing` is one whose removal was interrupted: what is left of it is no backup.
    """

    home: tuple[str, ...]
    name: str
    id: str
    dropped: datetime
    place: str
    removing: bool = False


def name(id: str, when: datetime) -> str:
    """Return the name in the trash of a backup that is dropped at a time (UTC)."""
    return f"{id}.dropped-{when:{_TIME}}"


def removing(name: str) -> str:
    """Return the name for the time of its removal."""
    return f".{name}.removing"


def found(home: tuple[str, ...], name: str, place: str) -> Trashed | None:
    """Return the dropped backup of a name in the trash, None if it is that of something else."""
    begun = _REMOVING.fullmatch(name)
    match = _NAME.fullmatch(begun[1] if begun else name)
    if match is None:
        return None
    try:
        year, month, day, hour, minute, second = map(int, match.groups()[1:])
        dropped = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    except ValueError:  # no such day
        return None
    return Trashed(home, name, match[1], dropped, place, begun is not None)

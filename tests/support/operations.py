"""The runs that are killed in the life of a database (lives.py): their words, steps, results."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from facts import PEOPLE, Facts

from pgtasks.backup.format import manifest
from pgtasks.backup.store import tree
from pgtasks.report import boundaries

if TYPE_CHECKING:
    from lives import Life

_OWNER = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s"
Begun = tuple[tuple[str, ...], list[Facts]]  # words; what the database holds, and may hold then


def _nothing(life: Life, said: str) -> None:
    """There is no more to look at."""


@dataclass(frozen=True)
class Operation:
    """A kind of run: its steps, its words with what the database may be then, a last look.

    `swaps` is whether what it replaces is kept.
    """

    steps: tuple[str, ...]
    begin: Callable[[Life, Facts], Begun]
    finish: Callable[[Life, str], None] = _nothing
    swaps: bool = False


def _backup(life: Life, now: Facts) -> Begun:
    return ("db.backup",), [now]


def _backup_there(life: Life, now: Facts) -> Begun:
    return ("db.backup", "--on-host"), [now]


def _restore(life: Life, now: Facts) -> Begun:
    backup, then = life.versions[life.other(now)]
    return ("db.restore", "--backup", backup), [now, then]


def _undo(life: Life, now: Facts) -> Begun:
    kept = life.kept()
    if kept and kept[-1] in life.behind:
        return ("db.undo",), [now, life.behind[kept[-1]]]
    backup, then = life.versions[life.other(now)]
    life.done("db.restore", "--backup", backup)
    return ("db.undo",), [then, now]


def _only_table(life: Life, now: Facts) -> Begun:
    backup, then = life.versions[life.other(now)]
    rows = {key: then[key] for key in PEOPLE}
    return ("db.restore", "--backup", backup, "--only-table", "people", "--yes"), [
        now,
        {**now, **rows},
    ]


def _in_place(life: Life, now: Facts) -> Begun:
    """Restore as the owner of the database, who is no superuser."""
    owner = life.cluster.value(_OWNER, parameters=(life.database,))
    url = replace(life.cluster.target(life.database), user=owner).url()
    settings = life.root / "owner.yaml"
    settings.write_text(f"pgtasks: {{environments: {{dev: {{url: '{url}'}}}}}}\n")
    words, allowed = _in_place_there(life, now)
    return ("-f", str(settings), *words), allowed


def _in_place_there(life: Life, now: Facts) -> Begun:
    backup, then = life.versions[life.other(now)]
    return ("db.restore", "--backup", backup, "--in-place", "--yes"), [now, then]


def _drill(life: Life, now: Facts) -> Begun:
    backup, _ = life.versions[life.other(now)]
    return ("backup.drill", "--backup", backup), [now]


def _drill_fetched(life: Life, now: Facts) -> Begun:
    """Drill a backup that is on the host alone, on a server here."""
    _one_is_there(life, there=True)
    id = life.ids(there=True)[-1]
    return ("backup.drill", "--on-host", "--backup", id), [now]


def _drill_there(life: Life, now: Facts) -> Begun:
    """Drill a backup of another server on the server of the host."""
    words = ("backup.drill", "--env", "near", "--backup", life.stranger, "--server", "staging")
    return words, [now]


def _drilled(life: Life, said: str) -> None:
    folder = Path(tempfile.gettempdir())
    left = [path for place in {folder, Path("/tmp")} for path in place.glob("pgtasks-run-*")]
    runs = {path.name.split("-")[2] for path in left}
    assert not [pid for pid in runs if f"pid {pid}:" in said], (said, left)


def _prune(life: Life, now: Facts) -> Begun:
    _age(life, there=False)
    return ("backup.prune", "--yes"), [now]


def _prune_there(life: Life, now: Facts) -> Begun:
    _age(life, there=True)
    return ("backup.prune", "--on-host", "--yes"), [now]


def _one_is_there(life: Life, *, there: bool) -> None:
    if not life.ids(there=there):
        life.done("db.backup", *(["--on-host"] if there else []))


def _age(life: Life, *, there: bool) -> None:
    """Have backups of some days, and one in the trash that is to leave it."""
    _one_is_there(life, there=there)
    days = datetime.now(timezone.utc)
    made = life.backups(there=there)[-1]
    for number in range(1, 5):
        _aged(made, days - timedelta(days=number), life.chance)
    old = _aged(made, days - timedelta(days=30), life.chance)
    trash = old.parent / ".trash"
    trash.mkdir(mode=0o700, exist_ok=True)
    life.expired.add(old.name)
    dropped = f"{old.name}.dropped-{days - timedelta(days=9):%Y%m%dT%H%M%SZ}"
    old.rename(trash / dropped)
    if there and life.place:
        life.place.do("chown", "-R", f"{life.place.user}:", life.place.backups)


def _aged(path: Path, taken: datetime, chance: random.Random) -> Path:
    """Put a copy of a backup, as if it was taken at another time."""
    made = tree.manifest_in(path)
    id = f"{taken:%Y%m%dT%H%M%SZ}-{chance.randrange(1 << 16):04x}"
    copy = shutil.copytree(path, path.parent / id)
    made = replace(made, id=id, snapshot_time=f"{taken:%Y-%m-%dT%H:%M:%S.000000Z}")
    (copy / manifest.NAME).write_text(manifest.text(made), encoding="utf-8")
    return copy


def _pruned(life: Life, said: str, *, there: bool = False) -> None:
    assert not set(life.ids()) & set(life.trash()), said
    done = life.run("backup.prune", *(["--on-host"] if there else []), "--yes")
    assert done.returncode == 0, (said, done.stderr)
    assert len(life.ids(there=there)) == 2, (said, life.ids())
    assert not set(life.trash()) & life.expired, said
    odd = [path.name for home in life.homes() for path in home.glob(".trash/.*")]
    assert set(odd) <= {".lock"}, (said, odd)


def _pruned_there(life: Life, said: str) -> None:
    _pruned(life, said, there=True)


_SWAPS = (*boundaries.SWAP, *boundaries.RESTORE_ANEW)
_RESTORE = (*boundaries.RESTORE, *_SWAPS)
_RESTORE_THERE = (*boundaries.RESTORES, *boundaries.SWAP)
_UNDO = (*boundaries.UNDO, *boundaries.SWAP)
_TABLES = boundaries.RESTORE_TABLES
_NEVER = ("restore.checked", "restore.swapped")  # of a drill
_BUILT = tuple(step for step in boundaries.RESTORES if step not in _NEVER)
OPERATIONS = {
    "backup": Operation(boundaries.BACKUP, _backup),
    "restore": Operation(_RESTORE, _restore, swaps=True),
    "undo": Operation(_UNDO, _undo, swaps=True),
    "only-table": Operation(_TABLES, _only_table),
    "in-place": Operation(boundaries.RESTORE_IN_PLACE, _in_place),
    "in-place-there": Operation(boundaries.RESTORE_IN_PLACE, _in_place_there),
    "drill": Operation(boundaries.DRILL, _drill, _drilled),
    "prune": Operation(boundaries.PRUNE, _prune, _pruned),
    "backup-there": Operation(boundaries.BACKUP, _backup_there),
    "restore-there": Operation(_RESTORE_THERE, _restore, swaps=True),
    "drill-fetched": Operation(boundaries.DRILLS, _drill_fetched, _drilled),
    "drill-there": Operation((*boundaries.DRILL[1:], *_BUILT), _drill_there, _drilled),
    "prune-there": Operation(boundaries.PRUNE, _prune_there, _pruned_there),
}
HERE = ("backup", "restore", "undo", "only-table", "in-place", "drill", "prune")
THERE = (
    *("backup", "backup-there", "restore-there", "undo", "only-table", "in-place-there"),
    *("drill-fetched", "drill-there", "prune-there"),
)

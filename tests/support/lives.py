"""The life of a database and its backups, in which run after run is killed.

After each kill the database must be the old or the new one, whole, as SQL of this file sees it; the
list of backups must be true, and each of them whole, as sha256sum sees it; the next run must heal
and say so, and nothing may be left.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from halting import unlocked
from hosts import DatabaseHost
from restores import logins, sides
from servers import Cluster
from waiting import until

from backups import processes_with
from pgtasks.backup.format import manifest
from pgtasks.backup.store import tree
from pgtasks.host import tempfiles
from pgtasks.report import boundaries

Inv = Callable[..., Any]
Facts = dict[str, str]

CONTENT = """
CREATE SCHEMA "odd schema";
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE people (id serial PRIMARY KEY, name text NOT NULL UNIQUE, mood mood);
CREATE TABLE "odd schema"."it's 🐘" (n int REFERENCES people, "t" text CHECK (t <> ''));
CREATE TABLE pets (id int PRIMARY KEY, kind varchar(9) CHECK (kind IN ('cat', 'dog')));
CREATE INDEX ON pets (kind) WHERE kind IN ('cat', 'dog');
CREATE VIEW happy AS SELECT * FROM people WHERE mood = 'ok';
CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM people;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER touch BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION touch();
INSERT INTO people (name, mood) SELECT '{version} ' || i, 'ok' FROM generate_series(1, 5000) i;
INSERT INTO "odd schema"."it's 🐘" SELECT i, md5(i || '{version}') FROM generate_series(1, 5000) i;
INSERT INTO pets SELECT i, (ARRAY['cat', 'dog'])[1 + i % 2] FROM generate_series(1, 20000) i;
COMMENT ON TABLE pets IS '{version}';
"""

_FACTS = """
SELECT 'index ' || indexrelid::regclass, pg_get_indexdef(indexrelid) FROM pg_index
 WHERE indrelid >= 16384 AND indexrelid::regclass::text NOT LIKE 'pg_toast.%'
UNION ALL SELECT 'constraint ' || conrelid::regclass || ' ' || conname, pg_get_constraintdef(oid)
 FROM pg_constraint WHERE conrelid >= 16384 AND contype <> 'n' AND convalidated
UNION ALL SELECT 'trigger ' || tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'function ' || oid::regprocedure, prosrc FROM pg_proc WHERE oid >= 16384
UNION ALL SELECT 'sequence ' || sequencename, last_value::text FROM pg_sequences
UNION ALL SELECT 'relation ' || oid::regclass, relkind::text || ' ' || pg_get_userbyid(relowner)
 || ' ' || coalesce(pg_get_viewdef(oid), '') || coalesce(obj_description(oid, 'pg_class'), '')
 FROM pg_class WHERE oid >= 16384 AND relkind IN ('r', 'v', 'm', 'S')
 AND relnamespace <> 'pg_toast'::regnamespace
"""


PEOPLE = ("rows people", "sequence people_id_seq")  # what is restored with that table


def facts(cluster: Cluster, database: str) -> Facts:
    """Return what a database holds: digests of rows, definitions, owners, by name."""
    conn = cluster.connect(database)
    try:
        with conn.cursor() as cursor:
            cursor.execute(_FACTS)
            found: Facts = dict(cursor.fetchall())
            for name in [name for name in found if name.startswith("relation ")]:
                if found[name][0] not in "rm":
                    continue
                table = name.removeprefix("relation ")
                cursor.execute(
                    "SELECT count(*) || ' ' || md5(coalesce(string_agg(r::text, chr(10)"
                    f" ORDER BY r::text COLLATE \"C\"), '')) FROM ONLY {table} r"
                )
                found[f"rows {table}"] = cursor.fetchone()[0]
            return found
    finally:
        conn.close()


@dataclass
class Life:
    """A project whose database has one of two contents, and what is run on it.

    `versions` are a backup of each content, outside the project, and the facts of what is restored
    from it. `place` is the host of the database, None where it is this machine.
    """

    cluster: Cluster
    database: str
    root: Path
    inv: Inv
    start: Callable[..., subprocess.Popen[str]]
    versions: dict[str, tuple[str, Facts]]
    chance: random.Random
    place: DatabaseHost | None = None
    kills: int = 0
    finished: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def project(self) -> Path:
        """Return the folder of the project."""
        return self.root / "shop"

    def homes(self) -> list[Path]:
        """Return the folders of the database's backups, as this machine sees them."""
        bases = [self.project / "backups"]
        if self.place:
            bases.append(self.place.path(self.place.backups))
        return [path for base in bases for path in base.glob("*/*") if path.is_dir()]

    def ids(self) -> list[str]:
        """Return the names of what looks like a finished backup."""
        return sorted(path.name for home in self.homes() for path in home.glob("[!.]*"))

    def trash(self) -> list[str]:
        """Return the IDs in the trash."""
        found = (path for home in self.homes() for path in home.glob(".trash/[!.]*"))
        return sorted(path.name.partition(".")[0] for path in found)

    def run(self, *args: str) -> Any:
        """Run a task to its end."""
        return unlocked(lambda *words: self.inv(*words, cwd=self.project), *args)

    # one trial

    def trial(self, name: str, step: str = "") -> None:
        """Kill a run of one kind at a step, or at a random moment, and look at what is left."""
        before, ids = facts(self.cluster, self.database), set(self.ids())
        what = OPERATIONS[name]
        argv, allowed = what.begin(self, before)
        ids |= set(self.ids())
        process = self._killed(name, argv, step)
        said = f"{name} {step or 'at a moment'} of pid {process.pid}: {process.communicate()}"
        self._ended(process.pid)
        now = facts(self.cluster, self.database)
        assert now in allowed, (said, _different(now, allowed))
        assert ids <= {*self.ids(), *self.trash(), *_EXPIRED}, said
        self.list_is_true(said)
        self.heals(now, said)
        what.finish(self, said)

    def _killed(self, name: str, argv: tuple[str, ...], step: str) -> subprocess.Popen[str]:
        began = datetime.now()
        env = {"PGTASKS_HALT_AT": step} if step else {}
        process = self.start(*argv, cwd=self.project, env=env)
        seen: list[str] = []
        if step:
            self._await(process, step, seen)
        else:
            with suppress(subprocess.TimeoutExpired):
                process.wait(self.chance.uniform(0.2, self.seconds.get(name, 4.0)))
        if process.poll() is None:
            end = os.killpg if self.chance.random() < 0.5 else os.kill
            end(process.pid, signal.SIGKILL)
            self.kills += 1
        else:
            assert process.returncode == 0, (argv, *seen, *process.communicate())
            self.finished += 1
            self.seconds[name] = (datetime.now() - began).total_seconds()
        return process

    @staticmethod
    def _await(process: subprocess.Popen[str], step: str, seen: list[str]) -> None:
        assert process.stderr
        for line in process.stderr:
            seen.append(line)
            if line.startswith(f"halted at {step}"):
                return
        process.wait()

    def _ended(self, pid: int) -> None:
        """Wait until nothing of a run is left but files and databases."""
        until(lambda: not processes_with(f"{self.root}/"), lambda: processes_with(f"{self.root}/"))
        until(lambda: not processes_with(f"pgtasks-run-{pid}-"))
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE %s"
        until(lambda: not self.cluster.value(query, parameters=(f"pgtasks% {pid} %",)))
        if self.place:
            self.place.quiet()

    def list_is_true(self, said: str) -> None:
        """Assert that `backup.list` lists what is there, and that each is whole."""
        listed = self.run("backup.list", "--json")
        assert listed.returncode == 0, (said, listed.stderr)
        shown = json.loads(listed.stdout)
        assert sorted(each["id"] for each in shown["backups"]) == self.ids(), said
        assert not shown.get("broken"), said
        for home in self.homes():
            for path in home.glob("[!.]*"):
                self._is_whole(path, said)

    def _is_whole(self, path: Path, said: str) -> None:
        sums = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
        done = subprocess.run(sums, cwd=path, capture_output=True, text=True)
        assert done.returncode == 0, (said, path, done.stderr)
        document = json.loads((path / "manifest.json").read_text())
        assert document["id"] == path.name, said
        digest = hashlib.sha256((path / "SHA256SUMS").read_bytes()).hexdigest()
        assert document["files"]["SHA256SUMS"]["sha256"] == digest, said

    def heals(self, now: Facts, said: str) -> None:
        """Assert that db.recover says what it heals, and that nothing is left then."""
        half = [name for name in sides(self.cluster, self.database) if "__new_" in name]
        partial = self.partial()
        healed = self.run("db.recover")
        assert healed.returncode == 0, (said, healed.stderr)
        told = healed.stdout + healed.stderr
        assert all(name in told for name in half), (said, half, told)
        assert not partial or "interrupted" in told, (said, partial, told)
        assert self.partial() == [], (said, told)
        left = [name for name in sides(self.cluster, self.database) if "__old_" not in name]
        assert left == [], (said, told)
        assert logins(self.cluster, self.database) == [], said
        assert [str(path) for path in tempfiles.left(tempfile.gettempdir())] == [], said
        assert facts(self.cluster, self.database) == now, (said, told)
        again = self.run("db.recover").stdout
        ours = [line for line in again.splitlines() if "/tmp/pgtasks-run-" not in line]
        assert ours[:1] in ([], ["nothing to heal"]) or ours[0].startswith("kept"), (said, again)
        self.list_is_true(said)

    def partial(self) -> list[str]:
        """Return the folders of backups that are not finished."""
        return [path.name for home in self.homes() for path in home.glob(".*.partial")]

    # between trials

    def tidy(self) -> None:
        """Drop all kept databases but the newest, and all backups but two."""
        kept = [name for name in sides(self.cluster, self.database) if "__old_" in name]
        for name in sorted(kept)[:-1]:
            self.cluster._drop(name)
        for home in self.homes():
            shutil.rmtree(home / ".trash", ignore_errors=True)
            for path in sorted(home.glob("[!.]*"))[:-2]:
                shutil.rmtree(path)

    def other(self, now: Facts) -> str:
        """Return the version that the database has not."""
        return next(name for name, (_, known) in sorted(self.versions.items()) if known != now)


def _different(now: Facts, allowed: list[Facts]) -> list[list[str]]:
    return [
        sorted(key for key in {*now, *each} if now.get(key) != each.get(key)) for each in allowed
    ]


Begun = tuple[tuple[str, ...], list[Facts]]
_EXPIRED: set[str] = set()  # what prune may have removed for good


def _nothing(life: Life, said: str) -> None:
    """There is no more to look at."""


@dataclass(frozen=True)
class Operation:
    """A kind of run: its steps, its words with what the database may be then, a last look."""

    steps: tuple[str, ...]
    begin: Callable[[Life, Facts], Begun]
    finish: Callable[[Life, str], None] = _nothing


def _backup(life: Life, now: Facts) -> Begun:
    return ("db.backup",), [now]


def _backup_there(life: Life, now: Facts) -> Begun:
    return ("db.backup", "--on-host"), [now]


def _restore(life: Life, now: Facts) -> Begun:
    backup, then = life.versions[life.other(now)]
    return ("db.restore", "--backup", backup), [now, then]


def _undo(life: Life, now: Facts) -> Begun:
    backup, then = life.versions[life.other(now)]
    done = life.run("db.restore", "--backup", backup)
    assert done.returncode == 0, done.stderr
    return ("db.undo",), [now, then]


def _only_table(life: Life, now: Facts) -> Begun:
    backup, then = life.versions[life.other(now)]
    rows = {key: then[key] for key in PEOPLE}
    return ("db.restore", "--backup", backup, "--only-table", "people", "--yes"), [
        now,
        {**now, **rows},
    ]


def _drill(life: Life, now: Facts) -> Begun:
    backup, _ = life.versions[life.other(now)]
    return ("backup.drill", "--backup", backup), [now]


def _drilled(life: Life, said: str) -> None:
    folder = Path(tempfile.gettempdir())
    left = [path for place in {folder, Path("/tmp")} for path in place.glob("pgtasks-run-*")]
    runs = {path.name.split("-")[2] for path in left}
    assert not [pid for pid in runs if f"pid {pid}:" in said], (said, left)


def _prune(life: Life, now: Facts) -> Begun:
    if not life.ids():
        done = life.run("db.backup")
        assert done.returncode == 0, done.stderr
    days = datetime.now(timezone.utc)
    for number in range(1, 5):
        _aged(life, days - timedelta(days=number), f"{number:04x}")
    old = _aged(life, days - timedelta(days=30), "aaaa")
    trash = old.parent / ".trash"
    trash.mkdir(mode=0o700, exist_ok=True)
    _EXPIRED.add(old.name)
    dropped = f"{old.name}.dropped-{days - timedelta(days=9):%Y%m%dT%H%M%SZ}"
    old.rename(trash / dropped)
    return ("backup.prune", "--yes"), [now]


def _aged(life: Life, taken: datetime, mark: str) -> Path:
    """Put a copy of a backup, as if it was taken at another time."""
    path = next(path for home in life.homes() for path in home.glob("[!.]*"))
    made = tree.manifest_in(path)
    id = f"{taken:%Y%m%dT%H%M%SZ}-{mark}"
    copy = shutil.copytree(path, path.parent / id)
    made = replace(made, id=id, snapshot_time=f"{taken:%Y-%m-%dT%H:%M:%S.000000Z}")
    (copy / manifest.NAME).write_text(manifest.text(made), encoding="utf-8")
    return copy


def _pruned(life: Life, said: str) -> None:
    assert not set(life.ids()) & set(life.trash()), said
    done = life.run("backup.prune", "--yes")
    assert done.returncode == 0, (said, done.stderr)
    assert len(life.ids()) == 2, (said, life.ids())
    assert not set(life.trash()) & _EXPIRED, said
    odd = [path.name for home in life.homes() for path in home.glob(".trash/.*")]
    assert set(odd) <= {".lock"}, (said, odd)


_SWAPS = (*boundaries.SWAP, *boundaries.RESTORE_ANEW)
OPERATIONS = {
    "backup": Operation(boundaries.BACKUP, _backup),
    "restore": Operation((*boundaries.RESTORE, *_SWAPS), _restore),
    "undo": Operation((*boundaries.UNDO, *boundaries.SWAP), _undo),
    "only-table": Operation(boundaries.RESTORE_TABLES, _only_table),
    "drill": Operation(boundaries.DRILL, _drill, _drilled),
    "prune": Operation(boundaries.PRUNE, _prune, _pruned),
    "backup-there": Operation(boundaries.BACKUP, _backup_there),
    "restore-there": Operation((*boundaries.RESTORES, *boundaries.SWAP), _restore),
}
HERE = ("backup", "restore", "undo", "only-table", "drill", "prune")
THERE = ("backup", "backup-there", "restore-there", "undo", "only-table")


@contextmanager
def lived(life: Life) -> Iterator[Life]:
    """Count the kills of a life when it ends."""
    try:
        yield life
    finally:
        life.tidy()

"""Load seed sets through psql, each in one transaction, and say what that changed."""

from __future__ import annotations

import json
import re
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pgtasks import report, script, tools
from pgtasks.errors import Failed
from pgtasks.host import HERE, Command
from pgtasks.pipeline import Pipeline
from pgtasks.seed.sets import SeedSet
from pgtasks.shell import psql
from pgtasks.target import Target
from pgtasks.tools import Toolset

_MARK = "pgtasks-seed:"
# what a file printed last may have no line end
_ANSWER = re.compile(rf"{_MARK}(.*)\n")
_PLACE = re.compile(r"psql:.+?:(?P<line>\d+): [^:]+: +(?P<words>.+)$")
# Asked in the transaction of the load itself: rows that only this transaction wrote, in tables
# rather than in their partitions. A load that is cut short asks nothing and changes nothing.
_CHANGES = f"""
SELECT '{_MARK}' || coalesce(json_agg(row_to_json(t) ORDER BY t."table"), '[]')::text FROM (
  SELECT format('%I.%I', n.nspname, c.relname) AS "table", sum(s.n_tup_ins) AS inserted,
    sum(s.n_tup_upd) AS updated, sum(s.n_tup_del) AS deleted
  FROM pg_catalog.pg_stat_xact_user_tables s
  JOIN pg_catalog.pg_class c ON c.oid = coalesce(pg_catalog.pg_partition_root(s.relid), s.relid)
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE s.schemaname !~ '^pg_' AND s.n_tup_ins + s.n_tup_upd + s.n_tup_del > 0
  GROUP BY n.nspname, c.relname) t
"""
_BEGUN = f"SELECT '{_MARK}' || pg_catalog.now()::text || pg_catalog.current_setting('track_counts')"


@dataclass(frozen=True)
class Rows:
    """Rows of one table that a load wrote."""

    table: str
    inserted: int
    updated: int
    deleted: int

    def __str__(self) -> str:
        parts = {"inserted": self.inserted, "updated": self.updated, "deleted": self.deleted}
        return ", ".join(f"{report.count(number)} {way}" for way, number in parts.items() if number)


@dataclass(frozen=True)
class Loaded:
    """What loading one set did. `tables` is None where the server does not count."""

    name: str
    scale: str
    tables: tuple[Rows, ...] | None
    seconds: float

    @property
    def changed(self) -> bool:
        """Whether any row was written."""
        return self.tables is None or bool(self.tables)

    def lines(self) -> list[str]:
        """Return what a person reads."""
        took = f"in {report.duration(self.seconds)}"
        at = f" at scale {self.scale}" if self.scale else ""
        if self.tables is None:
            return [f"loaded {self.name}{at} {took} (track_counts is off, rows are not counted)"]
        if not self.tables:
            return [f"{self.name}{at} is there already, no row was changed ({took})"]
        rows = sum(each.inserted + each.updated + each.deleted for each in self.tables)
        lines = [f"  {each.table}: {each}" for each in self.tables]
        count = report.plural(rows, "row")
        tables = report.plural(len(self.tables), "table")
        return [*lines, f"loaded {self.name}{at}: {count} in {tables} {took}"]

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        tables = None if self.tables is None else [asdict(each) for each in self.tables]
        return {
            "set": self.name,
            "scale": self.scale or None,
            "changed": self.changed,
            "tables": tables,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class Outcome:
    """What loading several sets did."""

    sets: tuple[Loaded, ...]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        return [line for loaded in self.sets for line in loaded.lines()]

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {"sets": [loaded.as_json() for loaded in self.sets]}


def command(
    toolset: Toolset, target: Target, passfile: str, seed: SeedSet, scale: int | None
) -> Command:
    """Return what loads one set: the file between two questions, all in one transaction."""
    argv = [toolset.tool("psql"), "--no-psqlrc", "--no-password", "--quiet"]
    argv += ["--no-align", "--tuples-only", "--single-transaction", "--set=ON_ERROR_STOP=1"]
    argv += [] if scale is None else [f"--set=scale={scale}"]
    # a role's own limits are for an application's statements
    argv += ["--command=SET LOCAL statement_timeout = 0", f"--command={_BEGUN}"]
    argv += [f"--file={seed.path}", f"--command={_BEGUN}", f"--command={_CHANGES}"]
    return Command(tuple(argv), tools.environment(target.here(), passfile), stop=signal.SIGINT)


def load(target: Target, seed: SeedSet, scale_name: str) -> Loaded:
    """Load one set, raising Failed with file and line; nothing of it stays then.

    The caller holds the target's lock.
    """
    scale = seed.scale(scale_name)
    script.checked([str(seed.path)])  # nothing in it may lead elsewhere
    toolset = psql(target)
    began = time.monotonic()
    with HERE.passfile(target) as passfile, tempfile.TemporaryFile() as out:
        made = command(toolset, target, passfile, seed, scale)
        with Pipeline(HERE, [made], stdout=out) as pipeline:
            try:
                said = pipeline.check()
            except Failed as exc:
                raise _explained(exc, seed) from None
        out.seek(0)
        printed = out.read().decode(errors="replace")
    for line in [*said, *_ANSWER.sub("", printed).splitlines()]:
        report.say(f"  {line}")
    tables = _changes(_ANSWER.findall(printed), seed)
    return Loaded(seed.name, scale_name if seed.scales else "", tables, time.monotonic() - began)


def _explained(exc: Failed, seed: SeedSet) -> Failed:
    for line in exc.hint.splitlines():
        found = _PLACE.match(line)
        if found:
            return Failed(
                f"{seed.shown}:{found['line']}: {found['words']}; nothing of it stays",
                hint=exc.hint,
            )
    return exc


def _changes(answers: Sequence[str], seed: SeedSet) -> tuple[Rows, ...] | None:
    begun, ended, changes = answers[0], answers[-2], answers[-1]
    if begun != ended:
        report.say(
            f"warning: {seed.shown} ends the transaction that it is loaded in: an error in it would"
            " leave half of it, and rows are counted since then only"
        )
    if begun.endswith("off"):
        return None
    return tuple(Rows(**row) for row in json.loads(changes))

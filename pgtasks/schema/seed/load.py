"""Load seed sets, each in one transaction, and report the changes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from psycopg2 import sql

from pgtasks import report
from pgtasks.errors import Failed
from pgtasks.schema.seed import python, record
from pgtasks.schema.seed.sequences import REALIGN
from pgtasks.schema.seed.sets import SeedSet
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.psql import changes, program, session
from pgtasks.server.psql.changes import Rows
from pgtasks.server.psql.source import Source
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class Loaded:
    """The result of loading one set. `tables` is None if the server does not count rows.

    `state` is loaded; or unchanged or changed, if it was left alone because it had been loaded: its
    file is the same, or has changed and is not marked as repeatable.
    """

    name: str
    scale: str
    tables: tuple[Rows, ...] | None
    seconds: float
    state: str = "loaded"

    @property
    def changed(self) -> bool:
        """Whether any row was written."""
        return self.tables is None or bool(self.tables)

    def lines(self) -> list[str]:
        """Return what a person reads."""
        duration = f"in {report.duration(self.seconds)}"
        at = f" at scale {self.scale}" if self.scale else ""
        if self.state == "unchanged":
            return [f"{self.name}{at} is there already, its file is the same"]
        if self.state == "changed":
            return [
                f"{self.name}{at} is there already, its file has changed since: "
                "--again loads it, and `repeatable: yes` in its head by itself"
            ]
        if self.tables is None:
            return [
                f"loaded {self.name}{at} {duration} (track_counts is off, rows are not counted)"
            ]
        if not self.tables:
            return [f"{self.name}{at} is there already, no row was changed ({duration})"]
        rows = sum(each.inserted + each.updated + each.deleted for each in self.tables)
        lines = [f"  {each.table}: {each}" for each in self.tables]
        count = report.plural(rows, "row")
        tables = report.plural(len(self.tables), "table")
        return [*lines, f"loaded {self.name}{at}: {count} in {tables} {duration}"]

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        tables = None if self.tables is None else [asdict(each) for each in self.tables]
        return {
            "set": self.name,
            "scale": self.scale or None,
            "state": self.state,
            "changed": self.changed,
            "tables": tables,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class Seeded:
    """The result of loading several sets."""

    sets: tuple[Loaded, ...]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        return [line for loaded in self.sets for line in loaded.lines()]

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {"sets": [loaded.as_json() for loaded in self.sets]}


def load(target: Target, seed: SeedSet, scale_name: str) -> Loaded:
    """Load one set. Raise Failed with file and line if it fails; it is then rolled back.

    The caller holds the target's lock.
    """
    scale = seed.scale(scale_name)
    began = time.monotonic()

    def end(conn: Connection) -> str:
        return record.statement(conn, target.database, seed, scale_name)

    if seed.python:
        tables = python.run(target, seed, scale, end)
    else:
        with connection.session(target, read_only=True, purpose="seed.load") as conn:
            recorded = end(conn)
        tables = _by_psql(target, seed, scale, recorded)
    _analyze(target, tables or ())
    return Loaded(seed.name, record.scale_of(seed, scale_name), tables, time.monotonic() - began)


def _analyze(target: Target, tables: Sequence[Rows]) -> None:
    """Gather the statistics of the tables that have new rows, for the planner and for people."""
    if tables:
        with connection.session(target, purpose="seed.load") as conn:
            names = sql.SQL(", ").join(sql.SQL(each.table) for each in tables)  # quoted by %I
            connection.execute(conn, sql.SQL("ANALYZE {}").format(names))


def _by_psql(
    target: Target, seed: SeedSet, scale: int | None, recorded: str
) -> tuple[Rows, ...] | None:
    checked = program.checked((Source(seed.shown, seed.path),))  # raises for \connect
    with tempfile.TemporaryFile() as out:
        try:
            ran = session.execute(target, checked, _settings(scale, recorded), stdout=out)
        except Failed as exc:
            raise _repeatable(exc) from None
        out.seek(0)
        printed = out.read().decode(errors="replace")
    for line in [*ran.messages, *printed.splitlines()]:
        report.say(f"  {line}")
    if ran.failed:
        stays = "nothing of it stays" if ran.undone else "a part of it stays"
        lenient = checked.lenient or seed.shown
        raise Failed(f"{ran.failed} failed, as {lenient} turns ON_ERROR_STOP off: {stays}")
    if not ran.kept:
        report.say(
            f"warning: {seed.shown} ends the transaction that it is loaded in: an error in it would"
            " leave half of it, and rows are counted since then only"
        )
    return changes.read(ran.answers, seed.shown)


def _repeatable(exc: Failed) -> Failed:
    """Add to a duplicate key error how to write a set that can be loaded again."""
    if not isinstance(exc, Failed) or "duplicate key" not in exc.message:
        return exc
    way = "a set is loaded again and again: INSERT ... ON CONFLICT DO NOTHING leaves what is there"
    return Failed(exc.message, hint="\n".join(filter(None, (exc.hint, way))), details=exc.details)


def _settings(scale: int | None, recorded: str) -> session.Settings:
    """Return the psql settings for a load: one transaction, with queries and SQL at its end."""
    flags = ["--no-align", "--tuples-only"]
    flags += [] if scale is None else [f"--set=scale={scale}"]
    return session.Settings(
        transaction=True,
        flags=tuple(flags),
        # timeouts of the role are meant for an application's statements
        begin="SET LOCAL statement_timeout = 0;",
        questions=changes.QUESTIONS,
        end=f"{REALIGN}\n{recorded}",
        undone="; nothing of it stays",
        strict=True,
    )

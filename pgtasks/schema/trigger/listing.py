"""List the triggers of the database and of the files, with their states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pgtasks import report
from pgtasks.schema.trigger import installed, rules
from pgtasks.schema.trigger.expected import Expected
from pgtasks.schema.trigger.files import SqlFile
from pgtasks.schema.trigger.installed import InstalledTrigger
from pgtasks.schema.trigger.normalize import events
from pgtasks.schema.trigger.verify import Difference, compare, prepare
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.settings.target import Target

_ENABLED = {"O": "yes", "D": "no", "R": "replica", "A": "always"}


@dataclass(frozen=True)
class Entry:
    """A trigger. `state` is that of `verify`, or EXTENSION for one of an extension.

    `partitions` is the number of partitions that inherit it; `where` is file and line.
    """

    table: str
    trigger: str
    kind: str
    fires: str
    enabled: str
    partitions: int
    state: str
    where: str


@dataclass(frozen=True)
class Listing:
    """All triggers of files and database."""

    triggers: tuple[Entry, ...]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        if not self.triggers:
            return ["no triggers"]
        rows = [
            (each.table, each.trigger, _fires(each), each.enabled, each.state, each.where)
            for each in self.triggers
        ]
        titles = ("table", "trigger", "fires", "enabled", "state", "where")
        return report.table(titles, rows).splitlines()

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {"triggers": [asdict(each) for each in self.triggers]}


def _fires(entry: Entry) -> str:
    kind = " (constraint)" if entry.kind == "constraint trigger" else ""
    partitions = report.plural(entry.partitions, "partition")
    return f"{entry.fires}{kind}" + (f", {partitions}" if entry.partitions else "")


def listing(files: Sequence[SqlFile], target: Target) -> Listing:
    """Return all triggers, without those that only partitions inherit."""
    session = connection.session(target, read_only=True, purpose="list", own_path=True)
    with session as conn:
        prepare(conn)
        return Listing(tuple(_entries(conn, rules.described(conn, files))))


def _entries(conn: Connection, described: Expected) -> Iterator[Entry]:
    states = {(each.kind, each.name): each for each in compare(conn, described).findings}
    triggers = list(described.triggers.values())
    tables = installed.table_oids(conn, [each.table for each in triggers])
    by_place = {(oid, each.name): each for oid, each in zip(tables, triggers, strict=True)}
    for actual in installed.all_triggers(conn):
        trigger = by_place.pop((actual.table_oid, actual.name), None)
        if trigger is None:
            yield _entry(actual, None)
        else:
            yield _entry(actual, states[("trigger", trigger.shown)])
    for trigger in by_place.values():
        found = states[("trigger", trigger.shown)]  # missing, or inherited by a partition
        fires = events(trigger.definition)
        place = trigger.table, trigger.name, "trigger"
        yield Entry(*place, fires, "-", 0, found.state, found.where)


def _entry(actual: InstalledTrigger, difference: Difference | None) -> Entry:
    unknown = "EXTENSION" if actual.extension else "ORPHAN"
    return Entry(
        table=actual.table,
        trigger=actual.name,
        kind="constraint trigger" if actual.constraint else "trigger",
        fires=events(actual.definition),
        enabled=_ENABLED[actual.enabled],
        partitions=actual.clones,
        state=difference.state if difference else unknown,
        where=difference.where if difference else actual.extension,
    )

"""Compare the trigger files with the database, without writing or reading rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pgtasks import report
from pgtasks.database.properties import NAME_LISTS, split_names
from pgtasks.errors import NotProven
from pgtasks.report import typed
from pgtasks.schema.trigger import beside, fingerprint, installed, rules
from pgtasks.schema.trigger import expected as files_say
from pgtasks.schema.trigger.expected import Expected, Function, Trigger
from pgtasks.schema.trigger.expression import Expressions
from pgtasks.schema.trigger.files import SqlFile
from pgtasks.schema.trigger.installed import InstalledFunction, InstalledTrigger
from pgtasks.schema.trigger.normalize import same_condition, same_defaults, trigger_shape
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.parser import TooDeep
from pgtasks.settings.target import Target

LOCK_TIMEOUT = "5s"  # CREATE TRIGGER waits for writers, and later writers wait for it
_NO_TABLE = "its table is not there"
STATES = ("INSTALLED", "OUTDATED", "DRIFTED", "CHANGED", "MISSING", "DISABLED", "ORPHAN")


@dataclass(frozen=True)
class Difference:
    """One function or trigger, or a GRANT or table beside them.

    `where` is file and line, empty for an orphan.
    `parts` are the parts of its definition that differ, `note` is for people.

    INSTALLED  the database has it as the file describes it
    OUTDATED   the file has changed since it was applied; `note` says what differs
    DRIFTED    the database has changed since
    CHANGED    one of them has changed, and it is not known which: it was not applied by `apply`
    MISSING    the database does not have it
    DISABLED   the database has it, and it does not fire
    ORPHAN     a trigger that no file knows
    """

    kind: str
    name: str
    state: str
    where: str = ""
    note: str = ""
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verification:
    """The result. `unknown` are the statements of the files that cannot be compared."""

    findings: tuple[Difference, ...]
    warnings: tuple[str, ...]
    unknown: tuple[str, ...]

    def count(self, state: str) -> int:
        """Return the number of objects in one state."""
        return sum(1 for finding in self.findings if finding.state == state)

    def faults(self, *, orphans: bool = False) -> list[Difference]:
        """Return what differs from the files; `orphans`, with what no file knows."""
        good = ("INSTALLED",) if orphans else ("INSTALLED", "ORPHAN")
        return [finding for finding in self.findings if finding.state not in good]

    def sentence(self) -> str:
        """Return the result in one line."""
        known = len(self.findings) - self.count("ORPHAN")
        rest = [f"{self.count(state)} {state.lower()}" for state in STATES[1:] if self.count(state)]
        return ", ".join(
            [f"{self.count('INSTALLED')} of {known} installed as the files say", *rest]
        )

    def lines(self) -> list[str]:
        """Return what a person reads: all that is not installed, then the count."""
        findings = [finding for finding in self.findings if finding.state != "INSTALLED"]
        rows = [
            (each.state, each.kind, each.name, each.note or "", each.where) for each in findings
        ]
        table = report.table(("state", "kind", "name", "what", "where"), rows).splitlines()
        return [*(table if rows else []), self.sentence()]

    def without_table(self) -> list[Difference]:
        """Return the triggers whose table does not exist, which no trigger file can create."""
        return [finding for finding in self.findings if finding.note == _NO_TABLE]

    def way_out(self, *, orphans: bool = False) -> str:
        """Return the way to make files and database agree."""
        apply, lacking = typed.task("trigger.apply"), self.without_table()
        if lacking:
            table = lacking[0].name.partition(" on ")[2]
            return f"table {table} is not there, without which {apply} fails"
        if not (orphans and self.count("ORPHAN")):
            return f"{apply} makes them agree"
        drop = f"{typed.task('trigger.drop', '--orphans')} removes the orphans"
        return f"{apply} makes the others agree; {drop}" if self.faults() else drop

    def remarks(self) -> list[str]:
        """Return the warnings, and the statements that were not compared."""
        unknown = [f"not compared: {statement}" for statement in self.unknown]
        return [*(f"warning: {warning}" for warning in self.warnings), *unknown]

    def check(self, *, orphans: bool = False) -> None:
        """Raise NotProven with the findings if the database differs from the files."""
        if self.faults(orphans=orphans):
            raise NotProven(
                f"files and database differ: {self.sentence()}: {self.way_out(orphans=orphans)}",
                details=self.as_json(),
            )

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {
            "counts": {state.lower(): self.count(state) for state in STATES},
            "findings": [asdict(finding) for finding in self.findings],
            "warnings": list(self.warnings),
            "not_compared": list(self.unknown),
        }


def verify(files: Sequence[SqlFile], target: Target) -> Verification:
    """Compare the files with the target's database."""
    session = connection.session(target, read_only=True, purpose="verify", own_path=True)
    with session as conn:
        prepare(conn)
        return compare(conn, rules.described(conn, files))


def prepare(conn: Connection) -> None:
    """Set what comparing needs in a session with the role's own search_path."""
    # the longest wait for a lock on a table
    connection.execute(conn, f"SET lock_timeout = '{LOCK_TIMEOUT}'")
    # a setting of the database must not change the meaning of the texts
    connection.execute(conn, "SET standard_conforming_strings = on")
    connection.execute(conn, "SET client_min_messages = warning")


def compare(conn: Connection, described: Expected) -> Verification:
    """Compare what the files describe with the database of a session."""
    expressions = Expressions(conn)
    findings = (
        *_functions(conn, expressions, described),
        *_triggers(conn, expressions, described),
        *_beside(conn, described),
    )
    return Verification(findings, tuple(described.warnings), tuple(described.unknown))


def _functions(
    conn: Connection, expressions: Expressions, described: Expected
) -> Iterator[Difference]:
    wanted = list(described.functions.values())
    oids = installed.function_oids(conn, [function.signature for function in wanted])
    by_oid = installed.functions(conn, [oid for oid in oids if oid is not None])
    for function, oid in zip(wanted, oids, strict=True):
        actual = by_oid.get(oid) if oid is not None else None
        if actual is None:
            yield _finding(function, "MISSING")
            continue
        differing = list(_differing(conn, expressions, function, actual))
        if not differing:
            yield _finding(function, "INSTALLED")
            continue
        state, note = fingerprint.judged(
            actual.comment, file=function.text, database=actual.definition
        )
        notes = ", ".join(filter(None, (*differing, note)))
        yield replace(_finding(function, state, notes), parts=tuple(differing))


def _beside(conn: Connection, described: Expected) -> Iterator[Difference]:
    """Yield what is beside functions and triggers: it is in force or not."""
    in_force = beside.in_force(conn, described.beside)
    for each, holds in zip(described.beside, in_force, strict=True):
        yield Difference(each.kind, each.name, "INSTALLED" if holds else "MISSING", each.where)


def _finding(function: Function, state: str, note: str = "") -> Difference:
    if state == "INSTALLED" and function.body is None:
        note = "its BEGIN ATOMIC body is not compared"
    return Difference(function.kind, function.signature, state, function.where, note)


def _differing(
    conn: Connection, expressions: Expressions, function: Function, actual: InstalledFunction
) -> Iterator[str]:
    """Yield the differing parts, as CREATE FUNCTION names them."""
    if function.body is None:
        if not actual.atomic:
            yield "body"
    elif actual.atomic or function.body != actual.body:
        yield "body"
    if function.language != actual.language:
        yield "language"
    if function.procedure != actual.procedure:
        yield "kind"
    yield from _differing_types(conn, expressions, function, actual)
    for name, value in function.options.items():
        if actual.options[name] != value:
            yield name
    for name in sorted(function.settings.keys() | actual.settings.keys()):
        if not _same_setting(function, actual, name):
            yield name


def _differing_types(
    conn: Connection, expressions: Expressions, function: Function, actual: InstalledFunction
) -> Iterator[str]:
    names = [argument.type for argument in function.arguments]
    oids = installed.type_oids(conn, [*names, function.returns or "void"])
    arguments = [
        (argument.mode, argument.name, oid)
        for argument, oid in zip(function.arguments, oids, strict=False)
    ]
    if tuple(arguments) != actual.arguments:
        yield "arguments"
    given = function.returns, function.returns_set
    if function.returns and (oids[-1], given[1]) != (actual.returns, actual.returns_set):
        yield "return type"
    defaults = [
        (argument.default, argument.type) for argument in function.arguments if argument.default
    ]
    if not same_defaults(conn, expressions, defaults, actual):
        yield "default values"


def _same_setting(function: Function, actual: InstalledFunction, name: str) -> bool:
    if name not in function.settings or name not in actual.settings:
        return False
    values, value = function.settings[name], actual.settings[name]
    if values is None:  # FROM CURRENT: the value at that time
        return True
    if name in NAME_LISTS:
        return list(values) == split_names(value)
    return ", ".join(values) == value


def _triggers(
    conn: Connection, expressions: Expressions, described: Expected
) -> Iterator[Difference]:
    wanted = list(described.triggers.values())
    tables = installed.table_oids(conn, [trigger.table for trigger in wanted])
    functions = installed.function_oids(conn, [f"{trigger.function}()" for trigger in wanted])
    installed_triggers = {
        (actual.table_oid, actual.name): actual for actual in installed.triggers(conn)
    }
    missing = [
        table is not None and (table, trigger.name) not in installed_triggers
        for trigger, table in zip(wanted, tables, strict=True)
    ]
    clones = installed.inherited(conn) if any(missing) else []
    by_partition = {(clone.table_oid, clone.name): clone for clone in clones}
    for trigger, table, function in zip(wanted, tables, functions, strict=True):
        actual = None
        if table is not None:
            key = table, trigger.name
            actual = installed_triggers.pop(key, None) or by_partition.get(key)
        yield _judged(conn, expressions, trigger, table, function, actual)
    for orphan in installed_triggers.values():
        kind = ", constraint trigger" if orphan.constraint else ""
        note = f"no file knows it{kind}" + ("" if orphan.enabled != "D" else ", disabled")
        name = files_say.shown(orphan.name, orphan.table)
        yield Difference("trigger", name, "ORPHAN", "", note)


def _judged(
    conn: Connection,
    expressions: Expressions,
    trigger: Trigger,
    table: int | None,
    function: int | None,
    actual: InstalledTrigger | None,
) -> Difference:
    name = trigger.shown
    if actual is None:
        note = "" if table is not None else _NO_TABLE
        return Difference("trigger", name, "MISSING", trigger.where, note)
    differing = list(_differing_parts(conn, expressions, trigger, function, actual))
    if not differing and actual.enabled != trigger.enabled:
        if actual.enabled == "D" or (actual.enabled == "R" and trigger.enabled in "OA"):
            return Difference("trigger", name, "DISABLED", trigger.where, _ENABLED[actual.enabled])
        differing = [_ENABLED[actual.enabled]]
    if differing:
        state, note = fingerprint.judged(actual.comment, file=trigger.text, database=actual.text)
        notes = ", ".join(filter(None, (*differing, note)))
        return Difference("trigger", name, state, trigger.where, notes, tuple(differing))
    if actual.unlike:
        note = f"enabled otherwise in {', '.join(actual.unlike)}"
        return Difference("trigger", name, "DISABLED", trigger.where, note)
    return Difference("trigger", name, "INSTALLED", trigger.where)


_ENABLED = {
    "O": "enabled",
    "D": "disabled",
    "R": "fires in replication sessions only",
    "A": "fires always, in replication sessions too",
}


def _differing_parts(
    conn: Connection,
    expressions: Expressions,
    trigger: Trigger,
    function: int | None,
    actual: InstalledTrigger,
) -> Iterator[str]:
    """Yield the differing parts, as CREATE TRIGGER names them."""
    try:
        ours, theirs = trigger_shape(trigger.definition), trigger_shape(actual.definition)
    except TooDeep:  # in the database: such a trigger of a file is not compared
        yield "definition"
        return
    for part, value in ours.items():
        if part != "when" and theirs[part] != value:
            yield part
    if function != actual.function:
        yield "function"
    if not same_condition(conn, expressions, ours["when"], actual):
        yield "when"

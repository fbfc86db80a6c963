"""Write files of the library's own triggers into a project: timestamps, users, audit, passwords."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtasks.errors import Failed, Refused
from pgtasks.report import typed
from pgtasks.report.interruption import telling_files
from pgtasks.schema.trigger import installed
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import qualified, quoted
from pgtasks.settings.project import Project
from pgtasks.settings.target import Target

_LIBRARY = Path(__file__).parent / "library"
CLOCKS = {
    "transaction": ("now()", "the start of the transaction, the same for all its changes"),
    "wall": (
        "clock_timestamp()",
        "the wall clock, so that changes of one transaction have an order",
    ),
}


@dataclass(frozen=True)
class Kind:
    """A trigger of the library: its function, when it fires, and the columns it needs."""

    function: str
    fires: str
    columns: tuple[str, ...] = ()


KINDS = {
    "timestamps": Kind("set_timestamps", "BEFORE INSERT OR UPDATE", ("created_at", "updated_at")),
    "track-user": Kind("track_user", "BEFORE INSERT OR UPDATE", ("created_by", "updated_by")),
    "audit": Kind("write_audit_log", "AFTER INSERT OR UPDATE OR DELETE"),
    "password": Kind("protect_password", "BEFORE INSERT OR UPDATE", ("password_hash",)),
}


@dataclass(frozen=True)
class Options:
    """What to add: the kind, the tables, and how they name things."""

    kind: str
    tables: tuple[str, ...]
    columns: tuple[str, ...] = ()
    clock: str = "transaction"
    setting: str = "app.user"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise Refused(f"unknown trigger {self.kind!r}, known: {', '.join(KINDS)}")
        if self.clock not in CLOCKS:
            raise Refused(f"unknown clock {self.clock!r}, known: {', '.join(CLOCKS)}")
        if not self.tables:
            raise Refused("which tables? name them with --table")
        number = len(KINDS[self.kind].columns)
        if self.columns and len(self.columns) != number:
            raise Refused(f"--columns: {len(self.columns)} names, {self.kind} has {number}")
        if not all(each.replace("_", "a").isalnum() for each in self.setting.split(".")) or (
            "." not in self.setting
        ):
            raise Refused(f"setting {self.setting!r}, expected a name with a dot, as app.user")

    @property
    def names(self) -> tuple[str, ...]:
        """Return the columns."""
        return self.columns or KINDS[self.kind].columns


@dataclass(frozen=True)
class Added:
    """The files that were written, and those that had all of it already."""

    written: tuple[str, ...]
    unchanged: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        lines = [f"wrote {name}" for name in self.written]
        lines += [f"{name} has it already" for name in self.unchanged]
        return [*lines, f"{typed.task('trigger.apply')} installs it"] if self.written else lines

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {"written": list(self.written), "unchanged": list(self.unchanged)}


def add(project: Project, target: Target, options: Options) -> Added:
    """Write the function's file and the triggers of the tables, which must have the columns.

    Raises Refused if a table lacks a column, or if the function's file has another text.
    """
    with connection.session(target, read_only=True, purpose="add", own_path=True) as conn:
        tables = [_table(conn, options, name) for name in options.tables]
    kind, sql = KINDS[options.kind], project.folder("sql")
    name = _function(options)
    function = sql / "functions" / f"{name}.sql"
    text = _filled((_LIBRARY / f"{options.kind}.sql").read_text(encoding="utf-8"), options)
    if function.exists() and _read(function) != text:
        raise Refused(f"{project.shown(function)} has another text: edit it, or move it away first")
    triggers = sql / "triggers" / f"{name}.sql"
    before = _read(triggers) if triggers.exists() else f"-- {options.kind}\n"
    new = [each for each in map(_trigger_of(name, kind), tables) if each not in before]
    written, unchanged = [], []
    with telling_files(lambda: (function, triggers), project.shown):
        for path, wanted, has in (
            (function, text, function.exists()),
            (triggers, before + "".join(f"\n{each}" for each in new), not new),
        ):
            if has:
                unchanged.append(project.shown(path))
            else:
                _write(path, wanted)
                written.append(project.shown(path))
    return Added(tuple(written), tuple(unchanged))


def _function(options: Options) -> str:
    """Return the function's name; for passwords in another column than usual, with its name."""
    kind = KINDS[options.kind]
    if options.kind == "password" and options.names != kind.columns:
        return f"protect_{''.join(c if c.isalnum() else '_' for c in options.names[0].lower())}"
    return kind.function


def _filled(text: str, options: Options) -> str:
    clock, why = CLOCKS[options.clock]
    names = options.names
    values: Mapping[str, str] = {
        "function": _function(options),
        "clock": clock,
        "why": why,
        "setting": options.setting,
        "created": quoted(names[0]) if names else "",
        "updated": quoted(names[-1]) if names else "",
        "column": quoted(names[0]) if names else "",
        "text": names[0].replace("'", "''") if names else "",
    }
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


@dataclass(frozen=True)
class _Table:
    """A table in SQL, with the columns of its primary key."""

    name: str
    key: tuple[str, ...] = ()


def _trigger_of(function: str, kind: Kind) -> Any:
    def text(table: _Table) -> str:
        keys = ", ".join("'{}'".format(each.replace("'", "''")) for each in table.key)
        return (
            f"CREATE OR REPLACE TRIGGER {function}\n"
            f"    {kind.fires} ON {table.name}\n"
            f"    FOR EACH ROW EXECUTE FUNCTION public.{function}({keys});\n"
        )

    return text


_COLUMNS = """
SELECT n.nspname AS schema, c.relname AS name,
    ARRAY(SELECT a.attname::text FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
    ARRAY(SELECT a.attname::text FROM pg_index i
        CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (attnum, number)
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
        WHERE i.indrelid = c.oid AND i.indisprimary AND k.number <= i.indnkeyatts
        ORDER BY k.number) AS key
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = %s::oid AND c.relkind IN ('r', 'p')
"""


@dataclass(frozen=True)
class _Row:
    schema: str
    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]


def _table(conn: Connection, options: Options, name: str) -> _Table:
    oid = installed.table_oid(conn, name)
    with connection.pinned(conn):
        row = connection.row(conn, _COLUMNS, (oid,), into=_Row) if oid is not None else None
    if row is None:
        raise Refused(f"no table {name!r} (names with capitals or spaces need double quotes)")
    table = qualified(row.schema, row.name)
    lacking = [column for column in options.names if column not in row.columns]
    if lacking:
        raise Refused(
            f"{table} has no column {lacking[0]!r}: add it in a migration, or name others with"
            " --columns"
        )
    if options.kind == "audit" and not row.key:
        raise Refused(f"{table} has no primary key, which tells its rows apart in the log")
    return _Table(table, row.key if options.kind == "audit" else ())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise Failed(f"{path}: {getattr(exc, 'strerror', None) or exc}") from None


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise Failed(f"{path}: {exc.strerror}") from None

"""Attach triggers to tables by rule: to every table that has certain columns.

A rule is a block of `pgtasks.triggers` in invoke.yaml, by the name of its triggers. It stands for
one CREATE TRIGGER on each table that it matches, so that a new table gets its triggers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pgtasks.errors import BadConfiguration
from pgtasks.schema.trigger import expected, installed
from pgtasks.schema.trigger.expected import Expected
from pgtasks.schema.trigger.files import SqlFile
from pgtasks.server import connection, parser
from pgtasks.server.catalog import OWN_SCHEMA
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import identifier, qualified
from pgtasks.settings import fields
from pgtasks.settings.project import Project

KEY = "{key}"


@dataclass(frozen=True)
class Rule:
    """A block of `pgtasks.triggers`."""

    columns: tuple[str, ...] = fields.names("columns that a table must have, all of them")
    schemas: tuple[str, ...] = fields.names("schemas of the tables (default: all)")
    leave_out: tuple[str, ...] = fields.names("tables without the trigger, as schema.table")
    fires: str = fields.text("timing and events", default="BEFORE INSERT OR UPDATE")
    when: str = fields.text("condition, as in WHEN (...)")
    function: str = fields.text("trigger function (default: the trigger's name, in public)")
    arguments: tuple[str, ...] = fields.names(
        "arguments of the function; {key} is the table's primary key"
    )


def read(project: Project) -> Iterator[SqlFile]:
    """Yield the rules of a project, as files without text; later settings files win."""
    rules: dict[str, SqlFile] = {}
    for file in project.files:
        for name, block in file.triggers.items():
            place = fields.located(file.triggers, name, file.name)
            where = f"pgtasks.triggers.{name}"
            if not isinstance(block, dict):
                raise BadConfiguration(f"{place}: {where}: expected a block of keys")
            values = fields.checked(fields.of(Rule), block, file.name, block=where)
            rule = fields.build(Rule, values)
            if not rule.columns:
                raise BadConfiguration(f"{place}: {where}.columns: name the columns of the tables")
            _check(_statement(name, rule, "public", "a", "b"), f"{place}: {where}")
            line = getattr(file.triggers, "lines", {}).get(name, 1)
            rules[name] = SqlFile(file.name, "", rule=(name, rule), at=line)
    yield from rules.values()


def _check(statement: str, where: str) -> None:
    from postgast import pg_query_pb2 as pb

    try:
        parsed = parser.parse(statement)
    except parser.SyntaxFault as exc:
        raise BadConfiguration(f"{where}: {exc}") from None
    if len(parsed) != 1 or not isinstance(parsed[0].node, pb.CreateTrigStmt):
        raise BadConfiguration(f"{where}: expected the parts of one CREATE TRIGGER")


def _statement(name: str, rule: Rule, schema: str, table: str, key: str) -> str:
    function = rule.function or f"public.{identifier(name)}"
    arguments = (each.replace(KEY, key).replace("'", "''") for each in rule.arguments)
    quoted = ", ".join(f"'{each}'" for each in arguments)
    when = f" WHEN ({rule.when})" if rule.when else ""
    return (
        f"CREATE OR REPLACE TRIGGER {identifier(name)}\n"
        f"    {rule.fires} ON {identifier(schema)}.{identifier(table)}\n"
        f"    FOR EACH ROW{when}\n"
        f"    EXECUTE FUNCTION {function}({quoted});\n"
    )


def described(conn: Connection, files: Sequence[SqlFile]) -> Expected:
    """Return what files and rules describe in a database.

    A trigger that a file describes is not the rule's.
    """
    plain = [file for file in files if file.rule is None]
    by_files = expected.read(plain)
    if len(plain) == len(files):
        return by_files
    triggers = list(by_files.triggers.values())
    tables = installed.table_oids(conn, [trigger.table for trigger in triggers])
    taken = {(oid, trigger.name) for oid, trigger in zip(tables, triggers, strict=True)}
    warnings: list[str] = []
    whole = [text for file in files for text in _expanded(conn, file, taken, warnings)]
    by_all = expected.read(whole)
    by_all.warnings += warnings
    return by_all


def _expanded(
    conn: Connection, file: SqlFile, taken: set[tuple[int | None, str]], warnings: list[str]
) -> Iterator[SqlFile]:
    if file.rule is None:
        yield file
        return
    name, rule = file.rule
    assert isinstance(rule, Rule)
    where = f"{file.name}:{file.at}: rule {name}"
    tables = _tables(conn, rule)
    if not tables:
        warnings.append(f"{where} matches no table")
    for table in tables:
        shown = qualified(table.schema, table.name)
        if (table.oid, name) in taken or shown in rule.leave_out:
            continue
        if table.key is None and any(KEY in each for each in rule.arguments):
            warnings.append(f"{where}: {shown} has no primary key of one column, it is left out")
            continue
        text = _statement(name, rule, table.schema, table.name, table.key or "")
        yield SqlFile(file.name, text, at=file.at)


@dataclass(frozen=True)
class _Table:
    oid: int
    schema: str
    name: str
    key: str | None


_TABLES = f"""
SELECT c.oid, n.nspname AS schema, c.relname AS name, (
    SELECT a.attname FROM pg_index i
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = c.oid AND i.indisprimary AND i.indnkeyatts = 1) AS key
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' AND {OWN_SCHEMA}
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
        AND d.objid = c.oid AND d.deptype = 'e')
    AND %s::text[] <@ ARRAY(SELECT a.attname::text FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
    AND (%s OR n.nspname = ANY (%s))
ORDER BY n.nspname, c.relname
"""


def _tables(conn: Connection, rule: Rule) -> list[_Table]:
    """Return the tables with all columns of a rule; partitions inherit the triggers."""
    schemas = list(rule.schemas)
    with connection.pinned(conn):
        parameters = (list(rule.columns), not schemas, schemas)
        return connection.rows(conn, _TABLES, parameters, into=_Table)

"""Random tables and random pairs of edits of them: what a fingerprint has to notice.

All is done in one transaction on one connection, each pair of edits is rolled back to a savepoint.
Whether the content differs is found out by the rows' text, sorted.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

from pgtasks.server import catalog
from pgtasks.server.proof import fingerprint
from pgtasks.server.proof.model import FORMAT

# a type, and an expression of a value: {n} is a small number, so that values repeat
_TYPES = (
    ("int", "{n}"),
    ("bigint", "{n}::bigint << 33"),
    ("smallint", "{n}"),
    ("text", "'name ' || {n}"),
    ("varchar(20)", "repeat('x', {n})"),
    ("char(8)", "'c' || {n}"),
    ("numeric", "{n} / 100.0"),
    ("float8", "{n} / 3.0"),
    ("bool", "{n} % 2 = 0"),
    ("date", "date '2026-01-01' + {n}"),
    ("timestamptz", "timestamptz '2026-01-01 00:00Z' + {n} * interval '1 hour'"),
    ("interval", "{n} * interval '1 minute'"),
    ("uuid", "lpad({n}::text, 32, '0')::uuid"),
    ("bytea", "int4send({n})"),
    ("jsonb", "jsonb_build_object('n', {n})"),
    ("int[]", "ARRAY[{n}, {n} + 1]"),
)
_MOST_COLUMNS, _MOST_ROWS = 8, 12
_PAIRS_PER_TABLE = 20


@dataclass(frozen=True)
class Table:
    """A random table `edited.t`: its columns with their expressions, its rows by number.

    Column `k` says which row is meant; of every other table it is no part of what is compared.
    """

    relation: catalog.Relation
    columns: tuple[tuple[str, str], ...]
    rows: int


def table(conn: Any, chance: random.Random) -> Table:
    """Make a random table in the open transaction."""
    kinds = [chance.choice(_TYPES) for _ in range(chance.randint(1, _MOST_COLUMNS))]
    columns = [(f"c{n}", type, f"({value})::{type}") for n, (type, value) in enumerate(kinds)]
    rows = chance.randint(2, _MOST_ROWS)
    with conn.cursor() as cursor:
        cursor.execute("DROP SCHEMA IF EXISTS edited CASCADE; CREATE SCHEMA edited")
        listed = ", ".join(f"{name} {type}" for name, type, _ in columns)
        cursor.execute(f"CREATE TABLE edited.t (k int, {listed})")
        for row in range(rows):
            values = ", ".join(_value(chance, value) for _, _, value in columns)
            cursor.execute(f"INSERT INTO edited.t VALUES ({row}, {values})")
    [relation] = [each for each in catalog.relations(conn, "r") if each.schema == "edited"]
    if chance.random() < 0.5:
        relation = replace(relation, columns=tuple(name for name, _, _ in columns))
    return Table(relation, tuple((name, value) for name, _, value in columns), rows)


def _value(chance: random.Random, expression: str) -> str:
    value = expression.replace("{n}", str(chance.randint(0, 9)))
    return f"nullif({value}, {value})" if chance.random() < 0.1 else value


def state(conn: Any, table: Table, format: int = FORMAT) -> tuple[Any, Any]:
    """Return the rows' text, sorted, and rows and fingerprint."""
    listed = ", ".join(table.relation.columns)
    with conn.cursor() as cursor:
        cursor.execute(
            f"SELECT array_agg(v ORDER BY v) FROM (SELECT ROW({listed})::text AS v FROM edited.t) s"
        )
        content = cursor.fetchone()[0]
        cursor.execute(fingerprint.row_count(0, table.relation, format))
        return content, cursor.fetchone()[1:]


def edit(conn: Any, table: Table, chance: random.Random) -> str:
    """Make a pair of edits in one statement; return it."""
    one, other = chance.sample(range(table.rows), 2)
    columns = chance.sample(table.columns, chance.randint(1, min(3, len(table.columns))))
    kind = chance.choice(("exchanged", "exchanged", "set", "replaced"))
    if kind == "replaced":
        names = ", ".join(name for name, _ in table.columns)
        statement = (
            f"DELETE FROM edited.t WHERE k = {one};"
            f"INSERT INTO edited.t SELECT k, {names} FROM edited.t WHERE k = {other}"
        )
    else:
        changes = []
        for name, value in columns:
            new = [f"(SELECT {name} FROM edited.t WHERE k = {row})" for row in (other, one)]
            if kind == "set":
                new = [_value(chance, value) for _ in range(2)]
            changes.append(
                f"{name} = CASE k WHEN {one} THEN {new[0]} WHEN {other} THEN {new[1]} END"
            )
        statement = f"UPDATE edited.t SET {', '.join(changes)} WHERE k IN ({one}, {other})"
    with conn.cursor() as cursor:
        cursor.execute(statement)
    return statement


@dataclass
class Tally:
    """What a number of trials brought: how many changed the content, what was not noticed."""

    changed: int = 0
    unseen: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)


def trials(conn: Any, number: int, seed: int, format: int = FORMAT) -> Tally:
    """Try pairs of edits on random tables; `conn` is in no transaction, all is rolled back."""
    chance, tally = random.Random(seed), Tally()
    with conn.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(fingerprint.pin_statement())
        for trial in range(number):
            if trial % _PAIRS_PER_TABLE == 0:
                made = table(conn, chance)
                before = state(conn, made, format)
                cursor.execute("SAVEPOINT made")
            statement = edit(conn, made, chance)
            after = state(conn, made, format)
            changed, noticed = after[0] != before[0], after[1] != before[1]
            tally.changed += changed
            if changed and not noticed:
                tally.unseen.append(statement)
            if noticed and not changed:
                tally.false.append(statement)
            cursor.execute("ROLLBACK TO made")
        cursor.execute("ROLLBACK")
    return tally

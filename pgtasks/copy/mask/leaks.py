"""Look for what masks do not reach: the schema is copied as it is, with the data that is in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg2 import sql

from pgtasks.copy.mask import block, columns, compilation, coverage, expression
from pgtasks.copy.mask.guess import guess
from pgtasks.copy.mask.masking import Decided, Masking
from pgtasks.copy.mask.preview import ENCODING
from pgtasks.copy.mask.rules import LARGE_OBJECTS
from pgtasks.copy.mask.settings import Masks
from pgtasks.copy.schema import schema_options
from pgtasks.errors import Failed
from pgtasks.host import tools
from pgtasks.host.local import HERE
from pgtasks.report import plural
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.dump import describe
from pgtasks.server.proof.toc import Entry
from pgtasks.server.quoting import quoted
from pgtasks.settings.target import Target

_SAMPLE = 2000  # values of each masked column
_SHORTEST = 6  # characters of a value that is looked for
_NO_VALUES = ("TABLE DATA", "SEQUENCE SET", "ENCODING", "STDSTRINGS", "SEARCHPATH", "ACL")


@dataclass(frozen=True)
class Leak:
    """What leaves the source although a rule masks it: where, and what."""

    where: str
    text: str


@dataclass(frozen=True)
class Checked:
    """The result of a check: the decisions, the columns without one, and the leaks."""

    environment: str
    masking: Masking
    leaks: tuple[Leak, ...]

    @property
    def faults(self) -> int:
        """Return the number of what a copy must not take along."""
        return len(self.masking.undecided) + len(self.leaks)

    def lines(self) -> list[str]:
        """Return what a person reads."""
        own = [each for each in self.masking.columns if not each.column.ancestors]
        plain = sum(bool(each.rule and each.rule.plain) for each in own)
        masked = sum(each.masked for each in own)
        lines = [
            f"{plural(masked, 'column')} masked, {plain:,} plain, "
            f"{len(self.masking.undecided):,} not decided, rules {self.masking.version or 'none'}"
        ]
        if undecided := self.masking.undecided:
            lines += ["mask:", *block.lines((each, guess(each)) for each in undecided)]
        return [*lines, *(f"{each.where}: {each.text}" for each in self.leaks)]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "environment": self.environment,
            **self.masking.as_json(),
            "undecided": [str(each) for each in self.masking.undecided],
            "leaks": [{"where": each.where, "leak": each.text} for each in self.leaks],
        }

    def check(self) -> None:
        """Raise Failed if a column is not decided or something leaks."""
        if self.faults:
            number = plural(self.faults, "thing")
            raise Failed(f"masks do not cover {number} of the source", details=self.as_json())


def checked(target: Target, masks: Masks) -> Checked:
    """Check the rules of a target's environment, as `check` does."""
    with connection.session(target, read_only=True, purpose="mask.check") as conn:
        encoding = connection.value(conn, ENCODING, into=str)
        major = conn.server_version // 10000
        toolset = tools.for_restore(tools.available(HERE, target), major, major, "none", target)
        options = schema_options(toolset)
        archive = describe.described(target, HERE, toolset, encoding=encoding, options=options)
        return check(conn, masks, archive, encoding=encoding)


def check(conn: Connection, masks: Masks, archive: Sequence[Entry], *, encoding: str) -> Checked:
    """Check the rules of a source against its columns, and its schema against their values."""
    masking = coverage.planned(conn, masks, encoding=encoding, required=False)
    untouchable = columns.untouchable(conn, [each.column for each in masking.columns])
    leaks = [
        *_values(conn, masking, archive, untouchable),
        *_beside(conn, masking),
        *_own_columns(masking),
    ]
    return Checked(masks.environment, masking, tuple(leaks))


def _values(
    conn: Connection, masking: Masking, archive: Sequence[Entry], untouchable: set[int]
) -> Iterator[Leak]:
    """Yield the definitions that contain a value of a masked column."""
    texts = [
        (f"{entry.desc.lower()} {entry.tag}", entry.definition.decode(errors="replace"))
        for entry in archive
        if entry.desc not in _NO_VALUES
    ]
    for each in masking.masked:
        if each.column.relation in untouchable or each.column.ancestors:
            continue
        values = _sampled(conn, each)
        for where, text in texts:
            if any(value in text for value in values):
                yield Leak(where, f"its definition contains a value of {each.column}")


def _sampled(conn: Connection, each: Decided) -> list[str]:
    column = each.column
    query = sql.SQL(
        "SELECT DISTINCT v FROM (SELECT {}::text AS v FROM {}{} LIMIT {}) s"
        " WHERE length(v) BETWEEN {} AND 200"
    ).format(
        sql.Identifier(column.name),
        sql.SQL("" if column.partitioned else "ONLY "),
        sql.Identifier(column.schema, column.table),
        sql.Literal(_SAMPLE),
        sql.Literal(_SHORTEST),
    )
    return connection.rows(conn, query, into=str)


_LARGE = "SELECT count(*) FROM pg_largeobject_metadata"


def _beside(conn: Connection, masking: Masking) -> Iterator[Leak]:
    """Yield what no rule of a column is for."""
    number = connection.value(conn, _LARGE, into=int)
    if number and LARGE_OBJECTS not in masking.beside:
        text = f"{plural(number, 'large object')} without a rule: plain, or null to leave them out"
        yield Leak(LARGE_OBJECTS, text)


def _own_columns(masking: Masking) -> Iterator[Leak]:
    """Yield the expressions that contain the values of other masked columns."""
    names = {(each.column.relation, each.column.name) for each in masking.masked}
    for each in masking.masked:
        if each.rule is None or compilation.ready_mask(each.rule):
            continue
        used = expression.names(expression.written(each.rule.text, each.column)).columns
        for name in dict.fromkeys(used):
            if name != each.column.name and (each.column.relation, name) in names:
                yield Leak(
                    str(each.column),
                    f"its mask reads {quoted(name)}, which is masked itself, as it is",
                )

"""What is decided about the columns of a source."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pgtasks.copy.mask.columns import Column
from pgtasks.copy.mask.rules import LARGE_OBJECTS, USER_MAPPINGS, Rule
from pgtasks.errors import Refused
from pgtasks.report import plural
from pgtasks.server.catalog import Relation
from pgtasks.server.quoting import quoted


@dataclass(frozen=True)
class Decided:
    """A column with its rule, None if there is none, and the SQL of its mask."""

    column: Column
    rule: Rule | None
    sql: str = ""

    @property
    def masked(self) -> bool:
        """Whether something else is read in place of the values."""
        return bool(self.sql)


@dataclass(frozen=True)
class Masking:
    """The decisions about all columns of a source; `version` identifies what the masks do.

    `beside` has what is decided about what is no column; `required` is whether all must be decided.
    """

    columns: tuple[Decided, ...] = ()
    version: str = ""
    beside: Mapping[str, str] = field(default_factory=dict)
    required: bool = False

    @property
    def masked(self) -> tuple[Decided, ...]:
        """Return the masked columns."""
        return tuple(each for each in self.columns if each.masked)

    @property
    def changes(self) -> bool:
        """Whether the source is not copied as it is."""
        return bool(self.masked) or "null" in self.beside.values()

    @property
    def in_force(self) -> bool:
        """Whether a condition may read values that must not be shown, of any table."""
        return bool(self.masked) or self.required

    @property
    def undecided(self) -> tuple[Column, ...]:
        """Return the columns without a rule, as `undecided_in` does for all tables."""
        return self.undecided_in()

    def undecided_in(self, *, without: Collection[int] = ()) -> tuple[Column, ...]:
        """Return the columns without a rule, except those of the tables `without`.

        A partition or heir has the rule of its table: it is returned only if the table is not.
        """
        columns = [
            each.column
            for each in self.columns
            if each.rule is None and each.column.relation not in without
        ]
        returned = {(each.relation, each.name) for each in columns}
        return tuple(
            each
            for each in columns
            if not any((ancestor, each.name) in returned for ancestor in each.ancestors)
        )

    @property
    def without_large_objects(self) -> bool:
        """Whether large objects are left out."""
        return self.beside.get(LARGE_OBJECTS) == "null"

    @property
    def without_user_mappings(self) -> bool:
        """Whether user mappings with options, which have passwords, are left out."""
        asked = self.beside.get(USER_MAPPINGS)
        return asked == "null" or bool(asked is None and (self.masked or self.required))

    def applied(self, relations: Iterable[Relation]) -> tuple[Relation, ...]:
        """Return relations that read the masks in place of their columns."""
        masks: dict[int, dict[str, str]] = {}
        for each in self.masked:
            masks.setdefault(each.column.relation, {})[each.column.name] = each.sql
        return tuple(
            _masked(relation, masks[relation.oid]) if relation.oid in masks else relation
            for relation in relations
        )

    def unchanged(self, counted: Mapping[tuple[str, str, str], int]) -> list[str]:
        """Return one line for each mask that left values as they are, and may not."""
        partly = {
            (each.column.schema, each.column.table, each.column.name)
            for each in self.masked
            if each.rule and each.rule.partly
        }
        lines = []
        for name, number in sorted(counted.items()):
            if number and name not in partly:
                column = ".".join(map(quoted, name))
                lines.append(f"{column}: {plural(number, 'value')} as in the source")
        return lines

    def lines(self) -> list[str]:
        """Return one line for a plan, none without masks."""
        if not self.masked:
            return []
        columns = [each.column for each in self.masked if not each.column.ancestors]
        tables = {each.relation for each in columns}
        return [
            f"{plural(len(columns), 'column')} of {plural(len(tables), 'table')}, "
            f"rules {self.version}"
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "version": self.version,
            "columns": {str(each.column): each.rule.text for each in self.masked if each.rule},
        }

    def routes(self) -> frozenset[int]:
        """Return the partitioned tables whose rows may belong into other partitions."""
        return frozenset(table for each in self.masked for table in each.column.parts)


def _masked(relation: Relation, expressions: Mapping[str, str]) -> Relation:
    """Return a relation with masks, raising Refused if a query of it would run code of others.

    A table without masks is copied without a query. A copy may read some columns of a table only.
    """
    own = {name: mask for name, mask in expressions.items() if name in relation.columns}
    if own and (relation.foreign_code or relation.own_cast):
        raise Refused(
            f"table {relation}: its masks would run code of another role, of an index, statistics "
            "or a cast, with the rights of this one: copy as its owner"
        )
    return replace(relation, expressions=own)

"""A subset of a database: the rows that --where and --sample choose, and all that they need.

A table that is not named is copied whole, unless it refers to one that is not. With --sample, no
table is. Rows that refer to rows of the subset come along for the tables of --follow alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from psycopg2 import sql

from pgtasks.copy.part import conditions, foreign, graph, keys, names
from pgtasks.copy.part.closure import Closure, Node
from pgtasks.copy.part.foreign import Foreign
from pgtasks.copy.part.graph import Step
from pgtasks.copy.part.keys import ForeignKey
from pgtasks.copy.part.scope import NO_ROWS, Scope
from pgtasks.errors import Refused
from pgtasks.server import catalog, connection
from pgtasks.server.catalog import Relation
from pgtasks.server.connection import Connection
from pgtasks.server.proof import fingerprint

_KEY_COLUMNS = """
SELECT array_agg(a.attname::text ORDER BY a.attname COLLATE "C")
FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
WHERE i.indisprimary AND i.indrelid = %s GROUP BY i.indrelid
"""
_INDEXED = """
SELECT o.oid::bigint FROM pg_constraint o WHERE o.contype = 'f' AND EXISTS (
  SELECT FROM pg_index i WHERE i.indrelid = o.conrelid AND i.indisvalid AND i.indpred IS NULL
  AND (i.indkey::int2[])[0:array_length(o.conkey, 1) - 1] @> o.conkey)
"""
_SHARES = 1_000_000  # parts of a whole that a sample distinguishes


@dataclass(frozen=True)
class Subset:
    """The tables of a subset in a snapshot, by OID.

    `roots` are the tables that partitions belong to, and themselves for all others; `words` say
    which rows of a table are chosen. `untouchable` are tables of which no query may choose rows.
    """

    closure: Closure
    roots: Mapping[int, int]
    words: Mapping[int, str]
    untouchable: tuple[str, ...] = ()

    def condition(self, table: Relation, conn: Connection) -> str | None:
        """Return the WHERE clause for a table, None for one that is copied whole."""
        root, chart = self.roots.get(table.oid), self.closure.graph
        if root is None or root not in chart.restricted:
            return None
        if root not in chart.reached:
            return NO_ROWS
        return self.closure.condition(root, table.oid).as_string(conn)

    def lines(self) -> Iterator[str]:
        """Yield what the plan says."""
        chart, nodes = self.closure.graph, self.closure.nodes
        by_name = sorted(nodes, key=lambda oid: str(nodes[oid]))
        for oid in by_name:
            if oid in chart.reached:
                yield f"rows of {nodes[oid]} {', or '.join(self._ways(oid))}"
        barren = [str(nodes[oid]) for oid in by_name if oid in chart.restricted - chart.reached]
        if barren:
            yield f"no rows of {names.few(barren)}: --follow takes those that refer to rows taken"
        if whole := [str(nodes[oid]) for oid in by_name if oid not in chart.restricted]:
            yield f"all rows of {names.few(whole)}"

    def _ways(self, table: int) -> Iterator[str]:
        steps = [step for step in self.closure.graph.steps if step.end == table]
        if table in self.words:
            yield self.words[table]
        if down := self._starts(step for step in steps if step.down):
            yield f"that refer to rows of {down}"
        if up := self._starts(step for step in steps if not step.down):
            yield f"that rows of {up} refer to"

    def _starts(self, steps: Iterable[Step]) -> str:
        return names.few(sorted({str(self.closure.nodes[step.start]) for step in steps}))


def read(conn: Connection, scope: Scope, empty: Collection[int], now: str) -> Subset | None:
    """Return the subset that flags ask for, None if they ask for none; raises Refused.

    `empty` are tables without their rows, which no subset needs, and `now` is the present in UTC
    that conditions mean.
    """
    if not scope.subset:
        if scope.follow:
            raise Refused("--follow says what comes with a subset: add --where or --sample")
        return None
    relations = {each.oid: each for each in catalog.relations(conn, "rp") if not each.extension}
    roots = _roots(conn, relations)
    taken = {oid for oid in relations if oid not in empty}
    all_keys = [key for key in keys.read(conn) if {key.child, key.parent} <= roots.keys() & taken]
    code = _ForeignCode(
        {oid for oid, each in relations.items() if each.foreign_code}, foreign.compared(conn)
    )
    named = _named(conn, scope, relations, roots, now, code.untouchable | code.compared.keys())
    followed = _followed(conn, scope, roots, all_keys)
    tables = {roots[oid] for oid in taken if oid in roots}
    chosen = dict(named)
    if scope.sample is None:
        bounded = graph.restricted(all_keys, roots, named)
    else:
        bounded = tables
        for oid in tables - named.keys() - {roots[key.child] for key in followed}:
            chosen[oid] = _sampled(conn, relations, roots, oid, scope.sample)
    _check_followed(scope, followed, bounded, roots)
    chart = graph.graph(
        *(all_keys, roots),
        chosen=chosen.keys(),
        followed={key.oid for key in followed},
        bounded=bounded,
    )
    nodes = {
        oid: Node(oid, each.schema, each.name, each.kind == "p", chosen.get(oid, ("", ""))[0])
        for oid, each in relations.items()
        if oid in tables
    }
    refused = code.met(relations, roots, bounded, named)
    refused |= {step.key.child for step in chart.steps if foreign.compares(step.key, code.compared)}
    return Subset(
        Closure(
            *(chart, nodes, names.partitions(conn)),
            indexed=frozenset(connection.rows(conn, _INDEXED, into=int)),
        ),
        roots,
        {oid: words for oid, (_, words) in chosen.items()},
        tuple(dict.fromkeys(str(relations[oid]) for oid in sorted(refused))),
    )


@dataclass(frozen=True)
class _ForeignCode:
    """Code of other roles: the tables whose rows cannot be read without it, and comparisons."""

    untouchable: Collection[int]
    compared: Mapping[int, Collection[str]]

    def met(
        self,
        relations: Collection[int],
        roots: Mapping[int, int],
        bounded: Collection[int],
        named: Mapping[int, Chosen],
    ) -> set[int]:
        """Return the tables for whose part of a subset it would run."""
        found = {oid for oid in self.untouchable if roots.get(oid) in bounded}
        found |= {oid for oid in self.compared if oid in relations and roots.get(oid) in named}
        if self.untouchable or self.compared:  # which table a condition reads is not looked into
            found |= {oid for oid in named if conditions.reads_tables(named[oid][0])}
        return found


Chosen = tuple[str, str]  # the condition on the rows of a table, and how a person reads it


def _roots(conn: Connection, relations: Collection[int]) -> dict[int, int]:
    """Return the table that each table is a partition of, at the highest level, or itself."""
    parts = names.partitions(conn)
    inside = {part for each in parts.values() for part in each}
    roots = {oid: oid for oid in relations if oid not in inside}
    for whole, each in parts.items():
        if whole not in inside:  # else a partition that has partitions
            roots |= {part: whole for part in each if part in relations}
    return roots


def _named(
    conn: Connection,
    scope: Scope,
    relations: Mapping[int, Relation],
    roots: Mapping[int, int],
    now: str,
    untouchable: Collection[int],
) -> dict[int, Chosen]:
    """Return the conditions of --where by table, raising Refused."""
    chosen: dict[int, Chosen] = {}
    types = foreign.types(conn) if scope.where else Foreign()
    unread = {roots.get(oid, oid) for oid in untouchable}
    for pattern, condition in scope.where:
        oids = names.matched(conn, "--where", [pattern], parts=False)
        for table in (relations[oid] for oid in sorted(oids & relations.keys())):
            if roots[table.oid] != table.oid:
                root = relations[roots[table.oid]]
                raise Refused(f"--where {pattern!r}: {table} is a partition, name {root}")
            if table.oid in chosen:
                raise Refused(f"--where names {table} twice: join the conditions with AND or OR")
            rows = keys.rows_of(table.schema, table.name, whole=table.kind == "p")
            fixed = conditions.fixed(condition, now)
            conditions.refuse_foreign(conn, table, fixed, types)
            if table.oid not in unread:  # or it would run to be planned
                conditions.check(conn, str(table), rows, fixed)
            chosen[table.oid] = (conditions.enclosed(fixed), f"where {condition}")
    return chosen


def _followed(
    conn: Connection, scope: Scope, roots: Mapping[int, int], all_keys: Sequence[ForeignKey]
) -> list[ForeignKey]:
    """Return the foreign keys of --follow."""
    followed = []
    for child, parent in scope.follow:
        children = names.matched(conn, "--follow", [child])
        parents = names.matched(conn, "--follow", [parent]) if parent else None
        among = [
            key
            for key in all_keys
            if roots[key.child] in children and (parents is None or roots[key.parent] in parents)
        ]
        if parent and not among:
            raise Refused(
                f"--follow '{child}:{parent}': no foreign key leads from one to the other"
            )
        followed += among
    return followed


def _check_followed(
    scope: Scope,
    followed: Sequence[ForeignKey],
    bounded: Collection[int],
    roots: Mapping[int, int],
) -> None:
    if scope.follow and not any(roots[key.parent] in bounded for key in followed):
        raise Refused("--follow: these tables refer to none of which only some rows are taken")


def _sampled(
    conn: Connection,
    relations: Mapping[int, Relation],
    roots: Mapping[int, int],
    table: int,
    percent: float,
) -> Chosen:
    """Return the condition of a sample: by a hash of the primary key, or of the row's place."""
    columns = connection.rows(conn, _KEY_COLUMNS, (table,), into=list[str])
    # of a partitioned table, the catalog's facts about columns are those of its partitions
    like = next(
        (relations[oid] for oid, root in roots.items() if root == table and relations[oid].columns),
        relations[table],
    )
    place = [sql.SQL("tableoid"), sql.SQL("ctid")]
    values = [fingerprint.value(like, name) for name in columns[0]] if columns else place
    hashed = sql.SQL("pg_catalog.hash_record_extended(ROW({}), 0)").format(
        sql.SQL(", ").join(values)
    )
    condition = sql.SQL("(({} & {}) % {} < {})").format(
        hashed, *map(sql.Literal, (2**63 - 1, _SHARES, round(percent * _SHARES / 100)))
    )
    return condition.as_string(conn), f"in a sample of {percent:g} %"

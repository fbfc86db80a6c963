"""The SQL that chooses the rows of a subset, with all rows that they need.

Each table of a subset gets one condition, which any session may evaluate in the same snapshot: it
writes nothing, so it also works on a standby. The tables that lead to it are CTEs, in the order of
the graph, each with the rows that are taken: `t` is the OID of their table, `r` their ctid, and
`c0`, `c1` are the columns that foreign keys compare. A table is joined as a whole with those that
lead to it. Only the tables of a cycle are walked through row by row, as far as indexes help.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from psycopg2 import sql

from pgtasks.copy.part import graph as graphs
from pgtasks.copy.part.graph import Graph, Step
from pgtasks.copy.part.keys import rows_of
from pgtasks.server.quoting import qualified

_Listed = Callable[[int, str], sql.Composed]  # the columns of a table, from one with an alias


@dataclass(frozen=True)
class Node:
    """A table of a subset, or a partitioned table with all its partitions (`whole`).

    `chosen` is the condition on the rows that are taken for themselves, empty if there are none.
    """

    oid: int
    schema: str
    name: str
    whole: bool
    chosen: str = ""

    @property
    def rows(self) -> sql.Composed:
        """Return the table for a FROM clause."""
        return rows_of(self.schema, self.name, whole=self.whole)

    def __str__(self) -> str:
        return qualified(self.schema, self.name)


@dataclass(frozen=True)
class Closure:
    """The rows of a subset.

    `parts` are the partitions of partitioned tables; `indexed` are the foreign keys whose columns
    an index begins with.
    """

    graph: Graph
    nodes: Mapping[int, Node]
    parts: Mapping[int, Collection[int]]
    indexed: Collection[int] = ()

    def condition(self, table: int, part: int) -> sql.Composed:
        """Return the WHERE clause for a table, or for the `part` that is one of its partitions."""
        node = self.nodes[table]
        if not node.whole and not any(step.end == table for step in self.graph.steps):
            return sql.SQL("WHERE {}").format(sql.SQL(node.chosen))
        if (step := self._only_step(node)) is not None:
            return self._compared(step)
        only = sql.SQL(" WHERE t = {}").format(sql.Literal(part)) if node.whole else sql.SQL("")
        return sql.SQL("WHERE ctid IN ({} SELECT r FROM {}{})").format(
            self._with(table), _rows(table), only
        )

    def _only_step(self, node: Node) -> Step | None:
        """Return the step that alone leads to a table, if its columns decide by themselves."""
        into = [step for step in self.graph.steps if step.end == node.oid]
        if node.chosen or len(into) != 1:
            return None
        key = into[0].key
        end = key.child if into[0].down else key.parent
        alike = len({operator for _, operator, _ in key.pairs}) == 1
        return into[0] if end == node.oid != into[0].start and alike else None

    def _compared(self, step: Step) -> sql.Composed:
        """Return the WHERE clause of a table that one step leads to, without a look at its ctid."""
        columns, key = self._columns(step.start), step.key
        compared, parts = key.pairs, self._of_parts(step)
        mine, theirs = list[sql.Composable](), list[sql.Composable]()
        for to, _, column in compared:
            of_parent, of_child = (theirs, mine) if step.down else (mine, theirs)
            listed = sql.SQL(f"c{columns.index(to if step.down else column)}")
            of_parent.append(listed if step.down else sql.Identifier(to))
            of_child.append(key.collated(column, sql.Identifier(column) if step.down else listed))
        return sql.SQL("WHERE ({}) {} ANY ({} SELECT {} FROM {} s{})").format(
            sql.SQL(", ").join(mine),
            sql.SQL(compared[0][1]),
            self._with(step.start),
            sql.SQL(", ").join(theirs),
            _rows(step.start),
            sql.SQL(" WHERE {}").format(parts) if parts else sql.SQL(""),
        )

    def _of_parts(self, step: Step) -> sql.Composed | None:
        """Return the condition that a row of `s` is of the partitions with the key of a step."""
        table = step.key.parent if step.down else step.key.child
        if table == step.start:
            return None
        oids = sql.Literal([table, *self.parts.get(table, ())])
        return sql.SQL("s.t = ANY ({}::oid[])").format(oids)

    def _with(self, table: int) -> sql.Composed:
        """Return the CTEs of a table and of all that lead to it."""
        parts: list[sql.Composed] = []
        for group in graphs.in_order(self.graph, graphs.before(self.graph, table)):
            if any(step.end in group for step in self._from(group)):
                parts += self._cycle(group)
            else:
                parts.append(_cte(_rows(group[0]), self._base(group[0], self._listed)))
        return sql.SQL("WITH RECURSIVE {}").format(sql.SQL(", ").join(parts))

    def _from(self, tables: Collection[int]) -> Iterator[Step]:
        return (step for step in self.graph.steps if step.start in tables)

    def _columns(self, table: int) -> list[str]:
        """Return the columns of a table that the steps from it compare."""
        return sorted({name for step in self._from([table]) for name in _start_columns(step)})

    def _listed(self, table: int, alias: str) -> sql.Composed:
        columns = [
            sql.SQL("{} AS {}").format(sql.Identifier(alias, name), sql.SQL(f"c{number}"))
            for number, name in enumerate(self._columns(table))
        ]
        return sql.SQL(", ").join([_place(alias), *columns])

    def _base(
        self, table: int, listed: _Listed, without: Collection[int] = ()
    ) -> list[sql.Composed]:
        """Return the queries of the rows of a table, but for steps from some tables."""
        node = self.nodes[table]
        queries = []
        if node.chosen:
            query = sql.SQL("SELECT {} FROM {} WHERE {}")
            chosen = sql.SQL(node.chosen)
            queries.append(query.format(listed(table, node.name), node.rows, chosen))
        for step in self.graph.steps:
            if step.end == table and step.start not in without:
                query = sql.SQL("SELECT {} FROM {} e WHERE EXISTS (SELECT FROM {} s WHERE {})")
                joined = self._joined(step)
                queries.append(
                    query.format(listed(table, "e"), _end(step), _rows(step.start), joined)
                )
        return queries

    def _joined(self, step: Step) -> sql.Composed:
        """Return the condition that a row of the CTE `s` leads to a row `e`."""
        columns = self._columns(step.start)
        conditions = []
        for to, operator, column in step.key.pairs:
            mine = sql.SQL("s.c{}").format(sql.SQL(str(columns.index(to if step.down else column))))
            other = sql.Identifier("e", column if step.down else to)
            parent, child = (mine, other) if step.down else (other, mine)
            conditions.append(
                sql.SQL("{} {} {}").format(
                    parent, sql.SQL(operator), step.key.collated(column, child)
                )
            )
        if (of_parts := self._of_parts(step)) is not None:
            conditions.append(of_parts)
        return sql.SQL(" AND ").join(conditions)

    def _cycle(self, group: Collection[int]) -> Iterator[sql.Composed]:
        """Yield the CTEs of tables that lead to each other: `n` is the OID of the table."""
        walk = sql.SQL(f"w{min(group)}")
        base = [query for table in group for query in self._base(table, _numbered, group)]
        steps = [step for step in self._from(group) if step.end in group]
        onward = sql.SQL("SELECT e.n, e.t, e.r FROM {} w CROSS JOIN LATERAL ({}) e").format(
            walk, sql.SQL(" UNION ALL ").join(self._stepping(step, group) for step in steps)
        )
        if any(step.down and step.key.oid not in self.indexed for step in steps):
            # each step would read a whole table for each row
            edges = sql.SQL(f"e{min(group)}")
            yield _cte(edges, [_edges(step) for step in steps], materialized=True)
            onward = sql.SQL(
                "SELECT e.n, e.t, e.r FROM {} w JOIN {} e ON e.from_n = w.n AND e.from_t = w.t"
                " AND e.from_r = w.r"
            ).format(walk, edges)
        yield sql.SQL("{} (n, t, r) AS (({}) UNION {})").format(
            walk, sql.SQL(" UNION ALL ").join(base), onward
        )
        for table in group:
            query = sql.SQL("SELECT {} FROM {} w JOIN {} e ON {}")
            listed, rows = self._listed(table, "e"), self.nodes[table].rows
            walked = self._walked(table, "e", group)
            yield _cte(_rows(table), [query.format(listed, walk, rows, walked)])

    def _walked(self, table: int, alias: str, group: Collection[int]) -> sql.Composed:
        """Return the condition that a row is the row `w` of a cycle.

        What is always true is left out: the planner does not know it, and expects fewer rows.
        """
        parts = [sql.SQL("{}.ctid = w.r").format(sql.Identifier(alias))]
        if self.nodes[table].whole:
            parts.append(sql.SQL("{}.tableoid = w.t").format(sql.Identifier(alias)))
        if len(group) > 1:
            parts.append(sql.SQL("w.n = {}").format(sql.Literal(table)))
        return sql.SQL(" AND ").join(parts)

    def _stepping(self, step: Step, group: Collection[int]) -> sql.Composed:
        """Return the query of the rows that the row of a cycle, `w`, leads to by a step."""
        return sql.SQL("SELECT {} FROM {} s JOIN {} e ON {} WHERE {}").format(
            *(_numbered(step.end, "e"), _start(step), _end(step), _both(step)),
            self._walked(step.start, "s", group),
        )


def _cte(
    name: sql.Composable, queries: Collection[sql.Composed], *, materialized: bool = False
) -> sql.Composed:
    how = sql.SQL("MATERIALIZED " if materialized else "")
    return sql.SQL("{} AS {}({})").format(name, how, sql.SQL(" UNION ALL ").join(queries))


def _rows(table: int) -> sql.SQL:
    """Return the name of the CTE of a table."""
    return sql.SQL(f"n{table}")


def _place(alias: str) -> sql.Composed:
    return sql.SQL("{0}.tableoid AS t, {0}.ctid AS r").format(sql.Identifier(alias))


def _numbered(table: int, alias: str) -> sql.Composed:
    return sql.SQL("{}::pg_catalog.int8 AS n, {}").format(sql.Literal(table), _place(alias))


def _start_columns(step: Step) -> list[str]:
    return [to if step.down else column for to, _, column in step.key.pairs]


def _start(step: Step) -> sql.Composed:
    return step.key.to if step.down else step.key.from_


def _end(step: Step) -> sql.Composed:
    return step.key.from_ if step.down else step.key.to


def _both(step: Step) -> sql.Composed:
    """Return the condition that the row `s` at the start of a step leads to the row `e`."""
    return step.key.matches("s", "e") if step.down else step.key.matches("e", "s")


def _edges(step: Step) -> sql.Composed:
    """Return the query of all pairs of rows of which one leads to the other by a step."""
    return sql.SQL(
        "SELECT {}::pg_catalog.int8 AS from_n, s.tableoid AS from_t, s.ctid AS from_r, {}"
        " FROM {} s JOIN {} e ON {}"
    ).format(
        *(sql.Literal(step.start), _numbered(step.end, "e"), _start(step)),
        *(_end(step), _both(step)),
    )

"""The rows that files changed, counted by the server in their transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pgtasks import report
from pgtasks.host import decoding

# Runs in the transaction of the files, and thus counts only rows that this transaction wrote, by
# table rather than by partition. An interrupted run asks no query and changes nothing.
_CHANGES = """
SELECT coalesce(pg_catalog.json_agg(pg_catalog.row_to_json(t) ORDER BY t."table"), '[]')
FROM (
  SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS "table",
    pg_catalog.sum(s.n_tup_ins) AS inserted, pg_catalog.sum(s.n_tup_upd) AS updated,
    pg_catalog.sum(s.n_tup_del) AS deleted
  FROM pg_catalog.pg_stat_xact_user_tables s
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=)
    coalesce(pg_catalog.pg_partition_root(s.relid)::pg_catalog.oid, s.relid)
  JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
  WHERE s.schemaname OPERATOR(pg_catalog.!~) '^pg_'
    AND s.n_tup_ins OPERATOR(pg_catalog.+) s.n_tup_upd OPERATOR(pg_catalog.+) s.n_tup_del
      OPERATOR(pg_catalog.>) 0
  GROUP BY n.nspname, c.relname) t
"""
_COUNTS = "SELECT pg_catalog.current_setting('track_counts')"


@dataclass(frozen=True)
class Rows:
    """Rows of one table that files wrote."""

    table: str
    inserted: int
    updated: int
    deleted: int

    def __str__(self) -> str:
        parts = {"inserted": self.inserted, "updated": self.updated, "deleted": self.deleted}
        return ", ".join(f"{report.count(number)} {way}" for way, number in parts.items() if number)


QUESTIONS = (_COUNTS, _CHANGES)


def read(answers: Sequence[str], shown: str) -> tuple[Rows, ...] | None:
    """Return the rows that were changed, None if the server does not count them."""
    counts, rows = answers
    if counts == "off":
        return None
    return decoding.decode(rows.encode(), tuple[Rows, ...], f"{shown}: the rows it changed")

"""Follow the transactions that a run of migrations prepares: PREPARE TRANSACTION commits nothing.

What such a transaction did is seen by nobody, and its locks stay, until COMMIT PREPARED or ROLLBACK
PREPARED, also after a restart of the server.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgtasks.database import attached
from pgtasks.report import typed
from pgtasks.server import connection, parser
from pgtasks.settings.target import Target

if TYPE_CHECKING:
    from postgast import pg_query_pb2 as pb

_RELEVANT = re.compile(r"\bPREPARE(D|\s+TRANSACTION|\s*(--|/\*))", re.IGNORECASE)


@dataclass
class Prepared:
    """The statements of prepared transactions, by their identifiers (gid)."""

    statements: dict[str, list[str]] = field(default_factory=dict)

    def follow(self, sql: str, opened: list[str], committed: list[str]) -> bool:
        """Move the statements of a transaction that the SQL prepares, commits or rolls back.

        Those that are `opened`, without the PREPARE TRANSACTION itself, become those of its
        identifier, and those of a COMMIT PREPARED become `committed`. Returns whether it prepares.
        """
        from postgast import pg_query_pb2 as pb

        prepares = False
        for each in _transactions(sql):
            if each.kind == pb.TRANS_STMT_PREPARE:
                prepares = True
                self.statements[each.gid] = [*opened]
                opened.clear()
            elif each.kind == pb.TRANS_STMT_COMMIT_PREPARED:
                committed += self.statements.pop(each.gid, [])
            elif each.kind == pb.TRANS_STMT_ROLLBACK_PREPARED:
                self.statements.pop(each.gid, None)
        return prepares

    def left(self, target: Target) -> Sequence[str]:
        """Return the identifiers of the transactions of this run that are still prepared."""
        if not self.statements:
            return ()
        with connection.session(target, read_only=True, purpose="migrate") as conn:
            there = attached.read(conn, target.database).prepared
        return [gid for gid in self.statements if gid in there]


def words(gids: Sequence[str]) -> str:
    """Return what is said of transactions that are left prepared."""
    return (
        f"what it did before PREPARE TRANSACTION is prepared as {', '.join(map(repr, gids))}: "
        "neither committed nor rolled back, its locks stay"
    )


def ways(gid: str) -> list[str]:
    """Return the two ways on from a prepared transaction, a line each."""
    literal = "'" + gid.replace("'", "''") + "'"
    return [
        f"{_command(f'ROLLBACK PREPARED {literal}')} takes it back",
        f"{_command(f'COMMIT PREPARED {literal}')} keeps it",
    ]


def _command(sql: str) -> str:
    plain = not re.search(r"[\"$`\\!\n]", sql)
    return typed.task(
        "db.run", "--no-transaction", "--sql", f'"{sql}"' if plain else shlex.quote(sql)
    )


def _transactions(sql: str) -> Iterator[pb.TransactionStmt]:
    if not _RELEVANT.search(sql):
        return
    from postgast import pg_query_pb2 as pb

    with suppress(parser.SyntaxFault):  # the server has understood it: a dialect newer than ours
        for each in parser.parse(sql):
            if isinstance(each.node, pb.TransactionStmt):
                yield each.node

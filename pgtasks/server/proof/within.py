"""Take a proof in the open transaction of a session, which sees what is not committed yet."""

from __future__ import annotations

from collections.abc import Callable

from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.proof.fingerprint import pin_statement
from pgtasks.server.proof.model import Proof
from pgtasks.server.proof.reader import ProofReader
from pgtasks.server.proof.scope import Content, content
from pgtasks.settings.target import Target


def within(
    conn: Connection, target: Target, *, format: int, narrow: Callable[[Content], Content]
) -> Proof:
    """Return the proof of what a session sees; its settings are pinned until the transaction ends.

    `narrow` returns what is read of the content. Raises Failed.
    """
    connection.execute(conn, pin_statement())
    scope = narrow(content(conn, trusted=True))
    return ProofReader(target, "", scope, jobs=1, format=format).read_in(conn)

"""Take the proof of a database now, or in an exported snapshot."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pgtasks.report import Progress
from pgtasks.server import catalog, connection
from pgtasks.server.proof.early import EarlyReader
from pgtasks.server.proof.model import FORMAT, Proof
from pgtasks.server.proof.reader import SNAPSHOT, ProofReader, snapshot_of
from pgtasks.server.proof.scope import Content, content
from pgtasks.settings.target import Target

_LOOK = 0.2  # seconds between updates of the progress


def take(
    target: Target,
    *,
    snapshot: str | None = None,
    jobs: int = 2,
    exclude_data: Sequence[str] = (),
    schema_only: bool = False,
    purpose: str = "proof",
    format: int = FORMAT,
    trusted: bool = False,
    narrow: Callable[[Content], Content] = lambda content: content,
    progress: Progress | None = None,
    early: EarlyReader | None = None,
) -> Proof:
    """Return the proof of a database, read by `jobs` sessions in one snapshot.

    Without `snapshot` (an exported one) it takes its own. Tables that match a pattern of
    `exclude_data` (as pg_dump's --exclude-table-data) are listed as unproven. `format` is that of
    the proof it will be compared with, and decides how rows are hashed. The sessions are read-only;
    `trusted` lets code of other roles run in them; `narrow` returns what is read of the content;
    tables that `early` has read are not read again. Raises Failed, also if a table was altered
    meanwhile (the snapshot may lack its rows), and Unreachable.
    """
    with connection.session(target, read_only=True, purpose=purpose) as conn:
        matched = catalog.without_data(conn, exclude_data)
        sizes = catalog.sizes(conn)
        connection.execute(conn, SNAPSHOT)
        snapshot = snapshot_of(conn, snapshot)
        scope = content(
            conn,
            exclude=[oid for oids in matched.values() for oid in oids],
            schema_only=schema_only,
            sizes=sizes,
            trusted=trusted,
        )
        known = early.readings(conn) if early else {}
        with ProofReader(
            *(target, snapshot, narrow(scope)),
            jobs=jobs,
            purpose=purpose,
            format=format,
            known=known,
        ) as taking:
            if progress is not None:
                show(taking, progress)
            return taking.result()


def show(taking: ProofReader, progress: Progress) -> None:
    """Show the progress of a proof until it ends."""
    progress.expect(sum(table.bytes for table in taking.content.tables))
    while not taking.wait(_LOOK):
        progress.update(taking.bytes_read)

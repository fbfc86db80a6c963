"""Take a proof: rows and fingerprints of all tables, the schema's digests, in one snapshot."""

from __future__ import annotations

from collections.abc import Sequence

from pgtasks.proof.model import Proof
from pgtasks.target import Target


def take(
    target: Target,
    *,
    snapshot: str | None = None,
    jobs: int = 2,
    exclude_data: Sequence[str] = (),
    schema_only: bool = False,
    purpose: str = "proof",
) -> Proof:
    """Return the proof of a database, read by `jobs` sessions in one snapshot.

    Without `snapshot` (an exported one) a snapshot of its own is taken. Tables that match a
    pattern of `exclude_data` (as pg_dump's --exclude-table-data) are named as unproven. The
    sessions are read-only. Raises Failed, Unreachable.
    """
    raise NotImplementedError

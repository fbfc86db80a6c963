"""Digests of a database's objects, from catalog facts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from pgtasks import connection
from pgtasks.connection import Connection
from pgtasks.names import quoted
from pgtasks.proof.model import ObjectDigest
from pgtasks.proof.normal import normal
from pgtasks.proof.objects import QUERIES


def read(conn: Connection) -> dict[str, ObjectDigest]:
    """Return the digests of all objects; the session's settings must be pinned.

    Expressions are deparsed from the catalogs as they are now, not as of the snapshot: lock the
    tables, or see that nothing was altered meanwhile.
    """
    found = {}
    for query in QUERIES:
        # jsonb as text: the driver would build objects only to be hashed
        for kind, parts, suffix, facts, expressions, access in connection.rows(
            conn, f"SELECT q.a, q.b, q.c, q.d::text, q.e, q.f FROM ({query}) q(a, b, c, d, e, f)"
        ):
            name = f"{kind} {'.'.join(map(quoted, parts))}{suffix}"
            found[name] = ObjectDigest(
                facts=_digest([facts]),
                expressions=_digest(map(normal, expressions)) if any(expressions) else "",
                access=_digest([access]) if access else "",
            )
    return dict(sorted(found.items()))


def _digest(texts: Iterable[str | None]) -> str:
    joined = "\0".join("" if text is None else f"={text}" for text in texts)
    return hashlib.sha256(joined.encode("utf-8", "surrogatepass")).hexdigest()[:16]

"""Compare the definitions after the commit: no other session sees them before it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pgtasks.backup.restore import growth
from pgtasks.backup.restore.inplace.plan import InPlacePlan
from pgtasks.backup.restore.prove import access
from pgtasks.errors import Failed
from pgtasks.host import journal
from pgtasks.host.base import Host
from pgtasks.report import account
from pgtasks.server import connection
from pgtasks.server.dump import describe
from pgtasks.server.proof import entries
from pgtasks.server.proof.difference import Difference, accepted
from pgtasks.server.proof.toc import Entry

_PROBLEM = "the content is restored and committed, its definitions differ from the backup"
Result = tuple[tuple[Difference, ...], tuple[str, ...]]


def schema(plan: InPlacePlan, host: Host) -> Result:
    """Return the accepted differences and notes, raising NotProven for others.

    There is no second database in which to see how the server prints a definition: one that it
    prints differently is named, not compared.
    """
    base = plan.base
    proof = base.backup.proof()
    if proof is None:
        return (), ()
    notes = [f"{item.object}: {item.reason}" for item in proof.unproven]
    if base.reader is None:
        return (), (*notes, "definitions: no pg_dump is here that reads this server")
    saved = base.role_map.entries([*plan.entries, *plan.existing])
    encoding = base.backup.database().encoding
    try:
        built = describe.described(base.target, host, base.reader, encoding=encoding)
    except Failed as exc:
        return (), (*notes, f"definitions: {exc.hint.strip().partition(chr(10))[0] or exc.message}")
    seen = access(base)
    compared = entries.compare_across(
        entries.schema(saved, seen), entries.schema(_own(plan, saved, built), seen)
    )
    differences = accepted(compared.differences, growth.without(base.accept), _PROBLEM)
    if compared.anew:
        notes.append(
            f"the text of {entries.names(compared.anew)}: this server prints it in a way of its own"
        )
    if not differences and not base.left.names:
        now = journal.now()
        base.backup.record(proven=now, proven_by=account.who(), failed=None, failure="")
    return differences, tuple(notes)


def _own(plan: InPlacePlan, saved: Iterable[Entry], built: Sequence[Entry]) -> list[Entry]:
    """Return the entries of the database without what is of others and not in the backup."""
    wanted = {(entry.desc, entry.namespace, entry.tag) for entry in saved}
    with connection.session(plan.target, read_only=True, purpose="db.restore") as conn:
        query = "SELECT rolname FROM pg_roles WHERE pg_has_role(oid, 'USAGE')"
        mine = set(connection.rows(conn, query, into=str))
    extensions = {name for name, _ in plan.standing.extensions}

    def is_own(entry: Entry) -> bool:
        if entry.desc == "EXTENSION" or entry.tag.startswith("EXTENSION "):
            return entry.tag.removeprefix("EXTENSION ").strip('"') not in extensions
        return entry.owner in mine or not entry.owner

    return [
        entry
        for entry in built
        if (entry.desc, entry.namespace, entry.tag) in wanted or is_own(entry)
    ]

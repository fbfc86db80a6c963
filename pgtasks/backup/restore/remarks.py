"""What a person should know before a restore, and stops nothing: the notes of its plan."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from pgtasks import report
from pgtasks.backup.foreign.dump import Dump
from pgtasks.backup.restore.plan import RestorePlan
from pgtasks.host.base import Host
from pgtasks.server.connection import Connection


def notes(conn: Connection, plan: RestorePlan, free: int | None, host: Host) -> list[str]:
    """Return what a person should know before a restore, and stops nothing."""
    notes = []
    dump = plan.backup if isinstance(plan.backup, Dump) else None
    if not plan.at_hand(host):
        notes.append(f"{report.size(plan.backup.manifest.size)} go to {host.name} first")
    if plan.doubt:
        look = dump.look if dump else f"pg_restore -f - {shlex.quote(str(plan.dump))} | less"
        notes.append(
            f"{plan.doubt}: restoring it runs what its maker wrote (to look first: {look})"
        )
    notes += plan.rights.lines()
    if free is None:
        notes.append("the free space of the server's disk cannot be known from here")
    if dump:
        return [*notes, *_notes_of_dump(dump, plan, conn.server_version // 10000)]
    saved, now = plan.backup.database(), plan.facts
    manifest = plan.backup.manifest
    if manifest.environment != plan.target.environment:
        notes.append(f"the backup is of environment {manifest.environment!r}")
    for field in ("collate", "ctype", "provider", "locale"):
        before, after = getattr(saved, field), getattr(now, field)
        if before != after:
            notes.append(f"{field} is {after!r} here, it was {before!r}: sort orders may differ")
    here = conn.server_version // 10000
    if manifest.major != here:
        notes.append(f"the backup is of PostgreSQL {manifest.major}, this is {here}")
    if plan.no_acl and not plan.no_owner:
        notes.append("grants are left out: only the owners may use what is restored")
    if manifest.schema_only:
        notes.append("the backup has the schema only, no rows")
    if manifest.excluded_data:
        notes.append(f"the backup has no rows of {', '.join(manifest.excluded_data)}")
    return notes


def _notes_of_dump(dump: Dump, plan: RestorePlan, major: int) -> Iterator[str]:
    held = dump.held
    if held.own:
        name = plan.result.database
        yield f"the dump makes database {held.own!r} for itself (--create): it goes into {name!r}"
    if held.server[0] not in (0, major):
        yield f"the dump is of PostgreSQL {held.server[0]}, this is {major}"
    for name in held.ignored:
        yield f"without {name}: the database keeps its own properties, no restore applies a dump's"
    for line in dump.unproven():
        if line.startswith("that the file"):
            yield f"not proven will be {line}"

"""Prove a side database: compare its rows with the proof, and its schema with the archive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pgtasks.backup.foreign.dump import Dump
from pgtasks.backup.restore import growth
from pgtasks.backup.restore.plan import RestorePlan
from pgtasks.backup.store.backup import Backup
from pgtasks.errors import Failed
from pgtasks.host import journal
from pgtasks.host.base import Host
from pgtasks.report import Progress, account, plural
from pgtasks.server import proof as proofs
from pgtasks.server.dump import describe, pg_dump
from pgtasks.server.proof import Comparison, Proof, Unproven, entries
from pgtasks.server.proof.difference import Difference, accepted, unused
from pgtasks.server.proof.early import EarlyReader
from pgtasks.server.proof.entries import Access
from pgtasks.server.proof.toc import Entry

Scratch = Callable[[], list[Entry]]


@dataclass(frozen=True)
class Proven:
    """The result of comparing a side database with its backup.

    `comparison` is None for a backup without a proof; `accepted` are the differences that were
    accepted by name.
    """

    comparison: Comparison | None
    unproven: tuple[str, ...] = ()
    accepted: tuple[Difference, ...] = ()
    unused: tuple[str, ...] = ()
    counted: Counted | None = None  # of the dump of somebody else
    omitted: tuple[str, ...] = ()  # of that dump, without being asked for

    def sentence(self) -> str:
        """Return the line for a person: `17 of 17 tables identical, 812,004 rows`."""
        also = f", {plural(len(self.accepted), 'difference')} accepted" if self.accepted else ""
        if self.counted:
            return f"{self.counted}{also}"
        if self.comparison is None:
            return "not proven: the backup was taken without a proof"
        return f"{self.comparison}{also}"


@dataclass(frozen=True)
class Counted:
    """The rows that were restored from the dump of somebody else.

    Those of `compared` tables are as many as the dump has.
    """

    tables: int
    rows: int
    compared: int

    def __str__(self) -> str:
        content = f"{plural(self.tables, 'table')}, {plural(self.rows, 'row')}"
        if self.compared == self.tables and self.tables:
            return f"{content}, as many as the dump has"
        if not self.compared:
            return content
        same = f"{self.compared} of {self.tables}"
        return f"{content}, in {same} tables as many as the dump has"


def archived(backup: Backup, accept: Sequence[str]) -> list[Entry]:
    """Return the entries of the backup's archive, raising NotProven if they differ from the proof.

    This compares the archive with the entries in the proof, before any of it runs.
    """
    if isinstance(backup, Dump):
        return list(backup.archive)
    contents = pg_dump.contents(backup.host, backup.manifest.layout, backup.dump)
    accepted(
        _altered(backup.proof(), contents),
        accept,
        "the dump differs from the proof of the backup, nothing was restored",
    )
    return contents


def _altered(expected: Proof | None, archive: Sequence[Entry]) -> Iterator[Difference]:
    if expected is not None and expected.schema is not None:
        yield from entries.altered(expected.schema, archive)


def prove(
    plan: RestorePlan,
    host: Host,
    archive: Sequence[Entry],
    scratch: Scratch,
    *,
    progress: Progress,
    early: EarlyReader | None = None,
) -> Proven:
    """Compare the side database with its backup, raising NotProven.

    Tables that `early` has read are not read again.

    `scratch` loads only the archive's schema into an empty database and returns its entries. It is
    called if a definition differs, because a server may print some definitions differently.
    """
    expected = plan.backup.proof()
    if expected is None:
        return Proven(None, unused=tuple(growth.without(plan.accept)))
    with _reading(plan, host) as built:
        actual = proofs.take(
            plan.proving,
            jobs=plan.jobs,
            format=expected.format,
            trusted=True,
            progress=progress,
            early=early,
        )
        routed = entries.routed(plan.archive)
        left = expected_of(plan, expected)
        both = (proofs.joined(each, routed) for each in (left, actual))
        comparison = proofs.compare(*both)
        schema = _schema(plan, archive, built(), scratch)
    differences = accepted(
        (*_altered(expected, plan.archive), *comparison.differences, *schema.differences),
        plan.accept,
        "the restored content differs from the backup, nothing was replaced",
    )
    if not differences and not plan.left:
        now = journal.now()
        plan.backup.record(proven=now, proven_by=account.who(), failed=None, failure="")
    unproven = [f"{item.object}: {item.reason}" for item in left.unproven]
    notes = (*_older(expected), *unproven, *comparison.skipped, *schema.notes)
    return Proven(
        comparison, notes, differences, tuple(unused(differences, growth.without(plan.accept)))
    )


def expected_of(plan: RestorePlan, expected: Proof) -> Proof:
    """Return the expected proof of a restore that leaves out an extension, or rows of tables."""
    left = {
        (entry.desc, entry.namespace, entry.tag)
        for entry in plan.archive
        if entry.number in plan.left.numbers
    }
    extensions = {tag for desc, _, tag in left if desc == "EXTENSION"}
    rows = {(schema, name) for desc, schema, name in left if desc == "TABLE DATA"}
    if not extensions and not rows:
        return expected
    made = {(entry.namespace, entry.tag) for entry in plan.archive if entry.desc == "TABLE"}
    named = [item for item in expected.tables if (item.schema, item.name) in rows & made]
    unproven = [Unproven(f"table {item}", "its rows were left out") for item in named]
    return replace(
        expected,
        tables=tuple(
            item for item in expected.tables if ("TABLE DATA", item.schema, item.name) not in left
        ),
        sequences=tuple(
            item
            for item in expected.sequences
            if ("SEQUENCE SET", item.schema, item.name) not in left
        ),
        extensions={
            name: version for name, version in expected.extensions.items() if name not in extensions
        },
        unproven=(*expected.unproven, *unproven),
    )


def _older(expected: Proof) -> Iterator[str]:
    if expected.schema is None:
        yield "the dump's entries: this backup was made before they were recorded"


@dataclass(frozen=True)
class _Schema:
    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()


def _schema(
    plan: RestorePlan, archive: Sequence[Entry], built: Sequence[Entry] | Failed, scratch: Scratch
) -> _Schema:
    """Compare the entries of the archive with those of the side database."""
    if plan.reader is None:
        return _Schema(notes=("schema: no pg_dump is here that reads this server",))
    if isinstance(built, Failed):
        reason = built.hint.strip().partition("\n")[0] or built.message
        return _Schema((Difference("schema", f" could not be read: {reason}"),))
    seen = access(plan)
    across = not _same_majors(plan)
    wanted = entries.schema(archive, seen, across=across)
    actual = entries.schema(built, across=across)
    if not across:
        compared = entries.compare(wanted, actual, lambda: entries.schema(scratch()))
        words = "printed differently by this server, also from the backup's schema alone"
        if plan.left.checks:
            words = "printed without constraints that are left out, or differently by this server"
    else:
        compared = entries.compare_across(wanted, actual)
        words = (
            f"PostgreSQL {plan.backup.manifest.major} and {plan.major} print it in ways of their "
            "own, not compared"
        )
    notes = [] if seen.grants else ["grants: they were not restored"]
    if not seen.subscriptions and any(entry.desc == "SUBSCRIPTION" for entry in archive):
        notes.append("subscriptions: only superusers see them")
    if compared.anew:
        notes.append(f"the text of {entries.names(compared.anew)}: {words}")
    return _Schema(compared.differences, tuple(notes))


def _same_majors(plan: RestorePlan) -> bool:
    """Return whether server and pg_dump have the major versions of the archive."""
    made = plan.backup.manifest
    return (made.major, made.dump_tool[0]) == (plan.major, plan.reader and plan.reader.major)


def access(plan: RestorePlan) -> Access:
    """Return how a restore maps the roles of the archive."""
    seen = not plan.rights.plain  # pg_dump leaves subscriptions out for other roles
    if plan.no_owner:
        owner = plan.facts.owner
        return Access(owner=lambda _: owner, owners=False, grants=False, subscriptions=seen)
    joined = plan.role_map.joins(plan.backup.database().roles)
    return Access(grants=not (plan.no_acl or joined), subscriptions=seen)


@contextmanager
def _reading(plan: RestorePlan, host: Host) -> Iterator[Callable[[], Sequence[Entry] | Failed]]:
    """Run pg_dump on the side database during the block; the yielded function waits for it."""
    if plan.reader is None:
        yield tuple
        return
    encoding = plan.backup.database().encoding
    with describe.describing(plan.proving, host, plan.reader, encoding=encoding) as built:
        yield built


def described(plan: RestorePlan, host: Host) -> list[Entry]:
    """Return the entries of the side database from pg_dump."""
    with _reading(plan, host) as built:
        entries = built()
    if isinstance(entries, Failed):
        raise entries
    return list(entries)

"""Read both sides at the same time, and compare them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace

from pgtasks.backup.store.backup import Backup
from pgtasks.errors import Refused
from pgtasks.host import tools
from pgtasks.schema.inspect.diff import compare, script, side
from pgtasks.schema.inspect.diff.outcome import Diff
from pgtasks.schema.inspect.diff.side import Facts, Side
from pgtasks.server.proof import Proof
from pgtasks.server.proof.model import FORMAT
from pgtasks.server.reach import Reached


@dataclass(frozen=True)
class Options:
    """What is compared, and how it is shown; see the flags of `inspect.diff`."""

    without: frozenset[str] = frozenset()
    rows: bool = False
    text: bool = False
    sql: bool = False


@dataclass(frozen=True)
class Place:
    """An environment that is reached; `jobs` sessions read its rows."""

    name: str
    reached: Reached
    jobs: int

    def facts(self) -> Facts:
        """Read what SQL says about the database."""
        with self.reached.session(read_only=True, purpose="inspect.diff") as conn:
            return side.facts(conn, self.name, self.reached.target)

    def proof(self, options: Options, format: int = FORMAT) -> Proof | None:
        """Return the proof of the rows, None if they are not compared."""
        return side.proof(self.reached, self.jobs, format) if options.rows else None


def databases(left: Place, right: Place, options: Options) -> Diff:
    """Compare two environments; both are only read."""
    facts = left.facts(), right.facts()
    majors = [each.major for each in facts]
    with ExitStack() as stack:
        both = [
            stack.enter_context(
                side.describing(
                    *(place.name, place.reached, each),
                    *(side.toolset(place.reached, majors), place.proof(options)),
                )
            )
            for place, each in zip((left, right), facts, strict=True)
        ]
        ours, theirs = (built() for built in both)
    return compared(ours, theirs, options)


def with_backup(place: Place, name: str, backup: Backup, options: Options, *, first: bool) -> Diff:
    """Compare an environment with a backup; the backup is the left side if it is `first`."""
    saved, facts = side.of_backup(name, backup), place.facts()
    reached = place.reached
    toolsets = tools.available(reached.host, reached.target)
    chosen = tools.for_description(toolsets, facts.major, saved.dumped_by, reached.target)
    chosen = chosen or side.toolset(reached, [facts.major])
    rows = place.proof(options, saved.rows.format) if saved.rows else None
    with side.describing(place.name, reached, facts, chosen, rows) as built:
        there = built()
    return compared(*((saved, there) if first else (there, saved)), options)


def backups(left: Backup, right: Backup, options: Options) -> Diff:
    """Compare two backups by what is in them; nothing connects to a database."""
    if left.fingerprint == right.fingerprint:
        raise Refused(f"backup {left.id!r} is compared with itself, name two")
    ours, theirs = side.of_backup(left.id, left), side.of_backup(right.id, right)
    formats = {each.rows.format for each in (ours, theirs) if each.rows}
    if options.rows and len(formats) > 1:  # their fingerprints do not compare
        numbered = (replace(each, rows=_numbers(each.rows)) for each in (ours, theirs))
        ours, theirs = numbered
        diff = compared(ours, theirs, options)
        words = "the values of rows: the two proofs have fingerprints of two kinds"
        return replace(diff, skipped=(words, *diff.skipped))
    return compared(ours, theirs, options)


def _numbers(rows: Proof | None) -> Proof | None:
    """Return a proof with the numbers of rows alone."""
    return rows and replace(
        rows,
        tables=tuple(replace(each, fingerprint="") for each in rows.tables),
        large_objects=rows.large_objects and replace(rows.large_objects, fingerprint=""),
        computed={},
    )


def compared(left: Side, right: Side, options: Options) -> Diff:
    """Compare two sides, and write the script if it is wanted."""
    objects = compare.objects(left, right, options.without)
    diff = compare.compare(
        *(left, right, objects), without=options.without, rows=options.rows, text=options.text
    )
    if not options.sql:
        return diff
    owners = "owners" not in options.without
    lines = script.script(left, right, diff, objects.missing, owners=owners)
    return replace(diff, sql=tuple(lines))

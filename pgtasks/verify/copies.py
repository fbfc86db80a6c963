"""Checks of copies: from one environment into the other, proven, undone, refused onto itself."""

from __future__ import annotations

from collections.abc import Callable

from pgtasks.copy import Copied, CopyOptions, copy
from pgtasks.copy.plan import CopyPlan
from pgtasks.errors import Refused
from pgtasks.report import Reported
from pgtasks.schema.inspect.diff import perform as diffs
from pgtasks.schema.inspect.diff.outcome import Diff
from pgtasks.server import connection
from pgtasks.server.identity import present
from pgtasks.server.reach import Origin
from pgtasks.verify import restores, rows
from pgtasks.verify.check import Check, as_refused, expect, refusal
from pgtasks.verify.place import Place
from pgtasks.verify.scratch import Scratch


def copied(
    source: Scratch, scratch: Scratch, *, midway: Callable[[], object] = lambda: None
) -> Copied:
    """Copy a scratch database over another, as db.copy does; `midway` is before the first write."""
    with source.run("db.copy") as other, other.reading() as there:
        origin = Origin(there, present(other.identity, source.target))
        # a superuser says so for each copy, and types the name
        options = CopyOptions(scratch.target.jobs, as_superuser=_is_superuser(scratch))
        with scratch.run("db.copy") as run:
            run.look(missing=True)
            confirm = scratch.target.database
            with run.replacing(confirm=confirm, insists=options.insists) as permit:

                def agreed(plan: Reported) -> bool:
                    said = permit.agreed(plan)
                    midway()
                    return said

                talk = {"console": run.console}
                done = copy(origin, permit.lock, run.host, options, **talk, agreed=agreed)
    assert not isinstance(done, CopyPlan)
    return done


def _is_superuser(scratch: Scratch) -> bool:
    with connection.session(scratch.target, read_only=True, purpose="verify") as conn:
        query = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
        return connection.value(conn, query, into=bool)


def differences(left: Scratch, right: Scratch, *, rows: bool) -> Diff:
    """Compare two scratch databases, as inspect.diff does."""
    ours, theirs = (
        diffs.Place(each.name, each.reached(), each.target.jobs) for each in (left, right)
    )
    return diffs.databases(ours, theirs, diffs.Options(rows=rows))


def equal(place: Place) -> str:
    """Copy the first database over the second, and compare both, row by row."""
    first, second = place.first, place.second
    before = rows.content(first.target)
    done = copied(first, second)
    expect(rows.content(second.target) == before, "the copy has other rows than its source")
    expect(rows.content(first.target) == before, "the source has changed")
    identity = present(second.identity(), second.target)
    owner = identity.stamp.environment if identity.stamp else "nothing"
    expect(owner == second.name, f"the copy has the stamp of {owner!r}")
    diff = differences(first, second, rows=True)
    expect(diff.equal, diff.summary())
    return done.built.proven.sentence()


def taken_back(place: Place) -> str:
    """Copy over a database with a row of its own, and undo that."""
    first, second = place.first, place.second
    copied(first, second)
    rows.run(second.target, f"UPDATE {rows.NAME} SET label = 'own' WHERE id = 1")
    own = rows.content(second.target)
    copied(first, second)
    expect(rows.content(second.target) != own, "the copy did not replace what was there")
    restores.undone(second)
    expect(rows.content(second.target) == own, "the undo did not bring back what was replaced")
    return "the target's own rows are back"


def onto_itself(place: Place) -> str:
    """Copy a database onto itself."""
    before = rows.content(place.first.target)
    message = refusal(Refused, "", lambda: copied(place.first, place.first))
    expect(rows.content(place.first.target) == before, "the database has changed")
    return as_refused(message)


CHECKS = (
    Check("copy", "a copy equals its source, row by row", equal),
    Check("copy", "an undo takes a copy back", taken_back),
    Check("copy", "a copy onto itself is refused", onto_itself),
)

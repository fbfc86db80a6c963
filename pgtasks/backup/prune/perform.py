"""Carry out the plan of backup.prune: into the trash, and out of it after some days."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pgtasks import report
from pgtasks.backup.prune.plan import Pruned, PrunePlan, plan
from pgtasks.backup.store.base import Store
from pgtasks.errors import Refused
from pgtasks.host import journal
from pgtasks.report import typed
from pgtasks.report.boundaries import boundary
from pgtasks.report.interruption import telling
from pgtasks.settings.target import Target


def prune(
    store: Store, target: Target, agreed: Callable[[PrunePlan], bool], *, dry: bool = False
) -> Pruned:
    """Drop the backups of a target in a store that no rule keeps.

    `agreed` shows the plan and asks; it returns whether it has shown it. The answer may take hours,
    so the plan is made again after a question, and what is dropped is in both. Raises Refused as
    `plan` does, and if a loss stops it; Locked if another run keeps or drops backups of this
    database.
    """
    if dry:
        return Pruned(plan(store, target, journal.clock()), dry=True)
    with store.retaining(target.environment, target.database):
        planned = _allowed(plan(store, target, journal.clock()))
        if not planned.changes:
            return Pruned(planned)
        shown = agreed(planned)
        if shown:
            planned = _both(planned, _allowed(plan(store, target, journal.clock())))
        with telling(lambda: _left(store, planned)):
            boundary("prune.agreed")
            return _carried_out(store, planned, shown=shown)


def _left(store: Store, planned: PrunePlan) -> str:
    """Return how many of the planned backups an interrupted run has dropped."""
    ids = {backup.id for backup in planned.dropped}
    gone = len(ids - {backup.id for backup in store.list().of(*planned.home)})
    words = f"{gone} of {report.plural(len(ids), 'backup')} {'is' if gone == 1 else 'are'} dropped"
    return f"{words}, the next {typed.task('backup.prune')} goes on"


def _allowed(planned: PrunePlan) -> PrunePlan:
    if planned.stopped:
        raise Refused(f"nothing was dropped: {planned.stopped}")
    return planned


def _both(first: PrunePlan, second: PrunePlan) -> PrunePlan:
    """Return the second plan without what the first one did not drop."""
    agreed = {backup.id for backup in first.dropped}
    verdicts = [
        each
        if each.stays or each.fact.id in agreed
        else replace(each, stays=True, why="no rule keeps it since the question")
        for each in second.verdicts
    ]
    leaving = [each for each in second.leaving if each in first.leaving]
    return replace(second, verdicts=verdicts, leaving=leaving)


def _carried_out(store: Store, planned: PrunePlan, *, shown: bool) -> Pruned:
    ids = [backup.id for backup in planned.dropped[::-1]]  # a run that is killed leaves the newest
    faults = dict(store.drop(*planned.home, ids, planned.now)) if ids else {}
    dropped = [backup for backup in planned.dropped if backup.id not in faults]
    boundary("prune.dropped")
    left = dict(store.empty(planned.leaving)) if planned.leaving else {}
    removed = [each for each in planned.leaving if each.name not in left]
    boundary("prune.emptied")
    return Pruned(planned, dropped, removed, {**faults, **left}, shown=shown)

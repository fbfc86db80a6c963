"""Acknowledge the loss of a backup, and say what the next backup.prune drops after that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pgtasks import report
from pgtasks.backup.format.retention import LONGEST, Retention
from pgtasks.backup.prune import facts, hands, loss, plan
from pgtasks.backup.prune.hands import Handled
from pgtasks.backup.store.backup import Backup, newest_first
from pgtasks.backup.store.base import Store
from pgtasks.errors import Refused
from pgtasks.host import journal
from pgtasks.report import account, typed
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class Acknowledged:
    """A loss that was acknowledged.

    `before` is the last whole backup before the loss, `going` what the next backup.prune drops.
    """

    handled: Handled
    before: Backup | None
    going: Sequence[Backup]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        lines = self.handled.lines()
        if self.going:
            ids = hands.listed([each.id for each in self.going])
            lines.append(
                f"the next backup.prune drops {report.plural(len(self.going), 'backup')}: {ids}"
            )
        if self.before is None:
            return lines
        goes = ", and goes then" if self.before in self.going else ""
        keeps = hands.keeps(self.before)
        return [
            *lines,
            f"{self.before.id} is the last whole one before the loss{goes}: {keeps} keeps it",
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            **self.handled.as_json(),
            "before": self.before.id if self.before else None,
            "next_prune_drops": [each.id for each in self.going],
        }


def acknowledge(backup: Backup, store: Store, target: Target) -> Acknowledged:
    """Acknowledge what a backup has lost, so that backup.prune may go on.

    `store` has it, `target` the rules by which that decides. Raises Refused if there is nothing to
    acknowledge.
    """
    hands.change_retention(backup, lambda said: _acknowledged(backup, store, said))
    handled = Handled(backup, "acknowledged", f"it has lost {backup.retention.loss}")
    return Acknowledged(handled, _before(backup, store), _going(backup, store, target))


def _acknowledged(backup: Backup, store: Store, said: Retention) -> Retention:
    if not said.loss:
        raise Refused(
            f"backup {backup.id} has lost nothing that stops backup.prune{_other(backup, store)}"
        )
    if said.acknowledged:
        who = f"{said.acknowledged} by {said.acknowledged_by}"
        raise Refused(
            f"the loss of backup {backup.id} was acknowledged already, {who}{_other(backup, store)}"
        )
    by = account.who()[:LONGEST]
    return replace(said, acknowledged=journal.now(), acknowledged_by=by)


def _other(backup: Backup, store: Store) -> str:
    """Return the way to acknowledge the loss that stops backup.prune instead, empty without one."""
    stopping = facts.stopping(_siblings(backup, store))
    if not stopping:
        return ""
    words = (stopping[0].id, *hands.on_host(backup.store.name))
    return f", {stopping[0].id} has: {typed.task('backup.acknowledge', *words)}"


def _siblings(backup: Backup, store: Store) -> list[Backup]:
    made = backup.manifest
    return store.list().of(made.environment, made.database)


def _before(backup: Backup, store: Store) -> Backup | None:
    older = [
        each for each in _siblings(backup, store) if each.manifest.taken < backup.manifest.taken
    ]
    return next((each for each in newest_first(older) if loss.counts(each)), None)


def _going(backup: Backup, store: Store, target: Target) -> Sequence[Backup]:
    made = backup.manifest
    if (made.environment, made.database) != (target.environment, target.database):
        return ()
    try:
        return plan.plan(store, target, journal.clock()).dropped
    except Refused:  # no rules, or nothing whole would stay
        return ()

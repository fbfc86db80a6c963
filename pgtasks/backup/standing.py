"""How well a database is backed up: the newest backup, the newest proven one, time to recover."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pgtasks import report
from pgtasks.backup.prune import facts
from pgtasks.backup.store.backup import Backup, newest_first
from pgtasks.backup.views import age, is_future
from pgtasks.host import journal


@dataclass(frozen=True)
class Standing:
    """The newest complete backup of a database, and the newest of those that are proven.

    `recovery` is the number of seconds that the restore of the last successful drill took, `passed`
    is its backup, also if a later drill of it failed. `failed` is the time of the last drill if it
    failed, `failure` says why, `unfit` is its backup. `lossy` is the oldest one with a loss that
    nobody has acknowledged, `future` the newest one that is dated in the future.
    """

    last: Backup | None = None
    proven: Backup | None = None
    recovery: float | None = None
    failed: str | None = None
    failure: str = ""
    unfit: Backup | None = None
    passed: Backup | None = None
    lossy: Backup | None = None
    future: Backup | None = None

    def line(self) -> str:
        """Return `last backup 3 h old, last proven one 2 d, a restore takes 6 min 10 s`."""
        if self.last is None:
            return ", ".join(["no complete backup", *self._dated()])
        words = [f"last backup {report.age(age(self.last))} old"]
        if self.proven is None:
            words.append("none is proven")
        else:
            words.append(f"last proven one {report.age(age(self.proven))}")
        if self.recovery is not None:
            words.append(f"a restore takes {report.duration(self.recovery)}")
        if self.failed:
            words.append(f"the last drill failed ({self.failed})")
        if self.lossy:
            words.append(f"{self.lossy.id} has a loss that nobody has acknowledged")
        return ", ".join([*words, *self._dated()])

    def _dated(self) -> Iterator[str]:
        if self.future:
            yield f"{self.future.id} is dated in the future and does not count"

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "last": _document(self.last),
            "proven": _document(self.proven),
            "recovery_seconds": self.recovery,
            "failed": self.failed,
            "failure": self.failure,
            "lossy": self.lossy.id if self.lossy else None,
            "future": self.future.id if self.future else None,
        }


def of(backups: Iterable[Backup]) -> Standing:
    """Return the standing of one database by its backups, in one store or in several.

    A damaged backup does not count, nor does one without all data. One that is dated in the future
    would be the newest for as long as its clock was ahead.
    """
    known = list(backups)
    whole = [each for each in known if each.manifest.complete and not each.checks.damaged]
    usable = [each for each in whole if not is_future(each)]
    proven = newest_first(each for each in usable if each.checks.proven)
    drilled = max(usable, key=lambda each: each.checks.drilled or "", default=None)
    failed = max(known, key=lambda each: each.checks.failed or "", default=None)
    now = journal.now()
    proofs = (each.checks.proven or "" for each in known)
    last_proof = max((each for each in proofs if each <= now), default="")
    has_failed = failed is not None and (failed.checks.failed or "") > last_proof
    return Standing(
        last=next(iter(newest_first(usable)), None),
        proven=next(iter(proven), None),
        recovery=drilled.checks.recovery if drilled else None,
        failed=failed.checks.failed if failed and has_failed else None,
        failure=failed.checks.failure if failed and has_failed else "",
        unfit=failed if has_failed else None,
        passed=drilled if drilled and drilled.checks.drilled else None,
        lossy=next(iter(facts.stopping(known)), None),
        future=next(iter(newest_first(each for each in whole if is_future(each))), None),
    )


def last_drill(backups: Iterable[Backup]) -> str:
    """Return the time of the last drill that found nothing, empty without one.

    A drill of the future, of a clock that went back, does not count.
    """
    usable = (each.checks.drilled or "" for each in backups if not each.checks.damaged)
    now = journal.now()
    return max((drilled for drilled in usable if drilled <= now), default="")


def _document(backup: Backup | None) -> dict[str, Any] | None:
    if backup is None:
        return None
    return {
        "backup": backup.id,
        "where": backup.store.name,
        "age_seconds": round(age(backup)),
        "proven": backup.checks.proven,
        "proven_by": backup.checks.proven_by,
    }

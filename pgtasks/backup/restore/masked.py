"""Mask a restored database: copy it, masked, into another side database, which is swapped in.

No masked value is left in the files of the result, as an UPDATE would leave it. The restored values
were in files of the server, and in its WAL, as long as the first side database existed. The owner
of the target, who owns that one too, can read them there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pgtasks.backup.restore.build import mark
from pgtasks.backup.restore.options import RestoreOptions
from pgtasks.backup.restore.plan import RestorePlan
from pgtasks.database import drop, recover
from pgtasks.errors import Refused
from pgtasks.host.base import Host
from pgtasks.report import Console
from pgtasks.server import connection
from pgtasks.server.identity import identify
from pgtasks.server.lock import Lock
from pgtasks.server.reach import Origin, Reached
from pgtasks.server.stamp import Stamp
from pgtasks.settings.target import Target

if TYPE_CHECKING:  # few restores mask, and each imports this module
    from pgtasks.copy.arrive import Arrived
    from pgtasks.copy.mask.settings import Masks
    from pgtasks.copy.plan import CopyPlan

AS_IT_IS = "its values come as they are: --masked masks them by the rules of its environment"
NOTE = (
    "its values reach this server's files before they are masked, and until then the target's "
    "owner can read them: db.copy masks them where they are"
)


@dataclass(frozen=True)
class Masked:
    """A masked side database, and its stamp."""

    side: str
    stamp: Stamp
    lines: tuple[str, ...] = ()
    arrived: Arrived | None = None


def refuse(masks: Masks, target: Target) -> None:
    """Raise Refused if the backup is of the target's own environment, or the target protected."""
    if target.protected or target.environment == masks.environment:
        raise Refused(
            f"--masked is for another, unprotected environment: {target} would lose its own data"
        )


def notes(options: RestoreOptions) -> tuple[str, ...]:
    """Return the notes of a plan that masks."""
    if options.arrival is None:
        return (NOTE,)
    return NOTE, f"runs {', '.join(options.arrival.names)} once it is masked and proven"


def masked(
    plan: RestorePlan, options: RestoreOptions, lock: Lock, host: Host, console: Console
) -> Masked:
    """Build the masked database, and drop the one that was restored.

    Raises NotProven if it is not what the masks make of the restored one.
    """
    from pgtasks.copy import build as copying

    copy_plan = _planned(plan, options, lock, host)
    for line in copy_plan.masking.lines():
        console.say(f"masking {line}")
    try:
        built = copying.arrive(copying.build(copy_plan, lock, console), lock, console)
    except BaseException:
        copying.clear(copy_plan, lock)
        raise
    drop.drop(lock.connection, plan.target, plan.side)
    stamp = replace(mark(plan), run=copy_plan.run, masks=copy_plan.masking.version)
    return Masked(copy_plan.side, stamp, tuple(copy_plan.masking.lines()), built.arrived)


def _planned(plan: RestorePlan, options: RestoreOptions, lock: Lock, host: Host) -> CopyPlan:
    from pgtasks.copy import survey
    from pgtasks.copy.mask.settings import Masks
    from pgtasks.copy.options import CopyOptions

    restored = plan.target.at(plan.side)
    with connection.session(restored, read_only=True, purpose="db.restore") as conn:
        origin = Origin(Reached(restored, host), identify(conn))
    copy_options = CopyOptions(
        plan.jobs,
        no_owner=options.no_owner,
        keep_owners=options.keep_owners,
        as_superuser=options.as_superuser,
        leave_behind=options.leave_behind,
        masks=options.masks or Masks(),
        arrival=options.arrival,
        rows=True,
    )
    # what was restored is no leftover whose space becomes free
    beside = replace(recover.look(lock.connection, plan.target), half_built=())
    copy_plan = survey.make_plan(origin, lock, host, copy_options, beside)
    return replace(copy_plan, facts=plan.facts)

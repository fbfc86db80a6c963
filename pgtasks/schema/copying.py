"""The task db.copy: let the guard decide on both databases, copy, compare trigger files."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pgtasks.backup.first import backing_up
from pgtasks.cli.source import source as opened
from pgtasks.copy import Copied, CopyOptions, copy
from pgtasks.copy.mask.settings import masks
from pgtasks.database import wayback
from pgtasks.schema.trigger import differences

if TYPE_CHECKING:
    from pgtasks.cli.permit import Permit
    from pgtasks.cli.run import Run
    from pgtasks.server.reach import Origin


def perform(
    r: Run,
    source: str,
    options: CopyOptions,
    *,
    unmasked: bool,
    confirm: str | None,
    confirm_source: str | None,
) -> None:
    """Copy the database of `source`, an environment, over that of the run, and finish the run."""
    with opened(r, source, unmasked=unmasked, confirm=confirm_source) as origin:
        r.look(missing=True)
        if not unmasked:
            options = replace(options, masks=masks(r.project, source, required=origin.required))
        with r.replacing(confirm=confirm, insists=options.insists) as permit:
            _copied(r, origin, permit, options)


def _copied(r: Run, origin: Origin, permit: Permit, options: CopyOptions) -> None:
    backups = r.project.folder("backups")
    agreed = backing_up(permit.agreed, r.reached(), backups, console=r.console)
    done = copy(origin, permit.lock, r.host, options, console=r.console, agreed=agreed)
    if isinstance(done, Copied):
        done = replace(done, trigger_differences=differences(r.project, r.target))
        if done.without_grants:
            done = replace(done, way_back=wayback.of_grants(r.project, r.target))
    r.finish(done)

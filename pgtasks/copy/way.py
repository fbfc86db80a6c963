"""The way of a copy: rows, the files of the source, or those of the replaced database.

The files are copied by the server, faster than rows, while nobody can connect to their database.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pgtasks.copy import delta, template
from pgtasks.copy.plan import CopyPlan
from pgtasks.copy.template import Candidate
from pgtasks.database.properties import DatabaseProperties
from pgtasks.server.connection import Connection


def obstacles(
    plan: CopyPlan, conn: Connection, candidate: Candidate, source: DatabaseProperties
) -> Iterator[str]:
    """Yield why the way that was asked for is not possible."""
    options = plan.options
    if options.template + options.rows + options.delta > 1:
        yield "--template, --delta and --rows are three ways: take one"
        return
    if options.template and (why := template.objection(plan, candidate, source)):
        yield f"the server cannot copy the files of the source: {why}: leave out --template"
    if options.delta and (why := delta.objection(plan, conn)):
        yield f"the copy cannot begin with the target: {why}: leave out --delta"


def chosen(
    plan: CopyPlan, conn: Connection, candidate: Candidate, source: DatabaseProperties
) -> CopyPlan:
    """Return the plan with its way: the one asked for, else the fastest that is possible."""
    options = plan.options
    # nobody can connect to the source meanwhile, which a protected one must be asked for
    is_open = not plan.source.protected and plan.allowed.stamp is not None
    if options.template or (
        is_open
        and not (options.rows or options.delta)
        and not template.objection(plan, candidate, source)
    ):
        return replace(plan, way="template")
    if options.delta or (
        not plan.target.protected
        and not options.rows
        and delta.pays(plan, conn)
        and not delta.objection(plan, conn)
    ):
        return replace(plan, way="delta")
    return plan

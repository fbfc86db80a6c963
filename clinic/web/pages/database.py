"""The life of the data, for administrators: where it is, what it is, when it was last backed up.

It shows what the tasks know, and changes nothing. No URL, no host and no password is on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import render_template
from sqlalchemy import text

from clinic.web import units
from clinic.web.factory import clinic
from clinic.web.identity import Identity
from clinic.web.pages import guards
from clinic.web.pages.blueprint import pages
from pgtasks.backup import standing
from pgtasks.backup.standing import Standing
from pgtasks.backup.store.local import LocalStore
from pgtasks.report import typed
from pgtasks.service import DatabaseService, check_health
from pgtasks.service.environment import find_project

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

_REVISIONS = text("SELECT version_num FROM alembic_version ORDER BY version_num")


@pages.get("/admin/database")
@guards.permitted("settings", "view")
def database(identity: Identity) -> ResponseReturnValue:
    """Show environment, stamp, migrations, the last backup and the last proven one."""
    service = clinic().service
    with units.unit(identity, read_only=True) as session:
        revisions = list(session.scalars(_REVISIONS))
    return render_template(
        "database.html",
        health=check_health(service),
        protected=clinic().protected,
        name=service.target.database,
        revisions=revisions,
        backups=backups(service),
        drill=typed.task("backup.drill", environment=service.name),
    )


def backups(service: DatabaseService) -> Standing:
    """Return how well the database is backed up, by the backups on this machine."""
    folder = find_project().folder("backups")
    listed = LocalStore(folder).list()
    return standing.of(listed.of(service.name, service.target.database))

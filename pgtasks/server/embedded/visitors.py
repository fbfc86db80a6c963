"""Who has sessions on a server that is about to be stopped."""

from __future__ import annotations

from pgtasks import report
from pgtasks.errors import PgtasksError
from pgtasks.report import account
from pgtasks.server import connection
from pgtasks.server.catalog import OTHERS
from pgtasks.server.embedded.server import EmbeddedServer
from pgtasks.settings.target import Target

_PATIENCE = "2"  # seconds: a server that hangs is stopped all the same
_SESSIONS = f"""
SELECT datname, coalesce(application_name, ''), count(*)::int FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND datname IS NOT NULL AND {OTHERS}
GROUP BY 1, 2 ORDER BY 1, 2"""


def sessions(server: EmbeddedServer) -> tuple[str, ...]:
    """Return `2 sessions of 'psql' in 'shop_dev'` for each; nothing where that is not known."""
    patient = {"connect_timeout": _PATIENCE}
    known = Target("", "", 0, "", server.superuser, embedded=True, parameters=patient)
    target = server.reached(known)
    place = target.at(target.maintenance)
    try:
        with connection.session(place, read_only=True, purpose="server.stop") as conn:
            rows = connection.rows(
                conn, _SESSIONS, {"own": account.end_of_names()}, into=tuple[str, str, int]
            )
    except PgtasksError:
        return ()
    return tuple(
        f"{report.plural(number, 'session')}{f' of {name!r}' if name else ''} in {database!r}"
        for database, name, number in rows
    )

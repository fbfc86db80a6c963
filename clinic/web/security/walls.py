"""The second wall stands, or nobody gets in: row-level security holds for the application's role.

It does not hold for the owner of the tables and for a superuser. A URL of either would work, with
one wall less, and nothing would show it.
"""

from __future__ import annotations

from flask import current_app
from sqlalchemy import text
from sqlalchemy.orm import Session

from clinic.web.factory import clinic
from pgtasks.errors import BadConfiguration

_CHECKED = "clinic.walls"
_ACTIVE = text("SELECT current_user::text, row_security_active('public.patients')")


def check(session: Session) -> None:
    """Raise BadConfiguration where the application sees all hospitals.

    Asked once in a process, and again after settings were reloaded: the role may be another one.
    """
    engine = clinic().service.engine
    if current_app.extensions.get(_CHECKED) is engine:
        return
    user, is_active = session.execute(_ACTIVE).one()
    if not is_active:
        raise BadConfiguration(
            f"the application acts as {user!r}, which sees the rows of all hospitals: give it a "
            "login that is a member of clinic_app alone, or pool.role: clinic_app"
        )
    current_app.extensions[_CHECKED] = engine

"""What is over goes: sessions, their tokens, logins and events of security.

The application may delete no row of these. A function of the database does, which knows what is
over: sql/functions/forget_history.sql.
"""

from __future__ import annotations

from flask import current_app
from sqlalchemy.exc import SQLAlchemyError

from clinic.web.factory import clinic
from clinic.web.security import aside

_FORGET = "SELECT forget_history(:keep * interval '1 second')"


def forget() -> None:
    """Let some of what is older than the setting `keep_history` go; no request fails by that."""
    try:
        aside.row(_FORGET, twice=True, keep=clinic().security.keep_history)
    except SQLAlchemyError:
        current_app.logger.exception("old rows of sessions and logs were not removed")

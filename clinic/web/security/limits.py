"""Requests of one kind and origin in a time: exact over all processes, without a further server.

Each kind has a window that begins with the first request and a number that fits into it. The counts
are in an unlogged table: a crash of the server forgets them, and no restore needs them.
"""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from clinic.web.factory import clinic
from clinic.web.security import aside, retention
from clinic.web.security.errors import RateLimited

_MINUTE, _HOUR = 60, 3600
_SWEEP = 1000  # one of so many requests removes what is over
_HIT = """
INSERT INTO rate_limits AS r (key, hits, expires_at)
VALUES (:key, 1, clock_timestamp() + :window * interval '1 second')
ON CONFLICT (key) DO UPDATE SET
    hits = CASE WHEN r.expires_at > clock_timestamp() THEN r.hits + 1 ELSE 1 END,
    expires_at = CASE WHEN r.expires_at > clock_timestamp() THEN r.expires_at
                      ELSE excluded.expires_at END
RETURNING hits, extract(epoch FROM expires_at - clock_timestamp())::float AS left
"""


@dataclass(frozen=True)
class Limit:
    """How often something may happen in `window` seconds; `setting` has the number, or `most`."""

    setting: str
    window: int
    most: int = 0  # where it is no setting


LIMITS = {
    "login": Limit("login_rate", _MINUTE),  # by address, or browser
    "api": Limit("api_rate", _MINUTE),  # by user
    "pages": Limit("api_rate", _MINUTE),  # by user
    "registration": Limit("registration_rate", _HOUR),  # by address
    "denied": Limit("", _MINUTE, most=20),  # by user, of what is written down
}


def hit(name: str, key: str) -> None:
    """Count a request of a kind of LIMITS, raising RateLimited for one too many.

    `key` is whose it is: an address (`origins.network(client)`), or a user's ID. logins.attempt and
    accounts.register count their own. The count stays, whatever becomes of the request.
    """
    hits, left = _counted(name, key)
    limit = LIMITS[name]
    if hits > (limit.most or getattr(clinic().security, limit.setting)):
        raise RateLimited(max(1, math.ceil(left)))
    if random.randrange(_SWEEP) == 0:  # nosec B311: no secret hangs on it
        aside.run(_sweep, twice=True)
        retention.forget()


def _counted(name: str, key: str) -> tuple[int, float]:
    """Count, and return how many there were in the window and how many seconds are left of it."""
    stored = f"{name}:{hashlib.sha256(key.encode()).hexdigest()}"
    counted = aside.row(_HIT, twice=True, key=stored, window=LIMITS[name].window)
    assert counted is not None
    return counted.hits, counted.left


def _sweep(session: Session) -> None:
    session.execute(text("DELETE FROM rate_limits WHERE expires_at < now()"))

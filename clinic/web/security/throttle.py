"""Waits after wrong passwords.

Failures are counted by account and address: who guesses at an account from elsewhere makes nobody
wait but himself. A browser in which the user has logged in before has a count of its own, so that
its user gets in even from an address that is shared with the attacker. There is no lock that holds
for good; an administrator may set one (users.locked_until).
"""

from __future__ import annotations

import hashlib
import math
import random

from sqlalchemy import text
from sqlalchemy.orm import Session

from clinic.web.factory import clinic
from clinic.web.identity import Client
from clinic.web.security import aside, origins
from clinic.web.security.errors import LoginDelayed

_SWEEP = 500  # one of so many attempts removes what is forgotten
_FORGOTTEN = "1 day"  # failures before that count no more
_KNOWN = "180 days"  # a browser is known as long as its cookie
# an attempt counts as failed before it is made: of those that race, none is free
_RESERVE = text(f"""
INSERT INTO login_throttle AS t (key, failures, last_at)
SELECT coalesce((SELECT k.key FROM login_throttle k WHERE k.key = :device AND k.is_known),
                :address), 1, clock_timestamp()
ON CONFLICT (key) DO UPDATE SET
    (failures, blocked_until) = (
        SELECT n, CASE WHEN n > :free THEN clock_timestamp()
            + least(:longest, power(2, least(n - :free, 30))) * interval '1 second' END
        FROM (SELECT CASE WHEN t.last_at < clock_timestamp() - interval '{_FORGOTTEN}' THEN 1
                          ELSE t.failures + 1 END) AS counted (n)),
    last_at = clock_timestamp()
WHERE coalesce(t.blocked_until <= clock_timestamp(), true)
RETURNING key
""")
_WAIT = text("""
SELECT extract(epoch FROM max(blocked_until) - clock_timestamp())::float
FROM login_throttle
WHERE key = coalesce((SELECT k.key FROM login_throttle k WHERE k.key = :device AND k.is_known),
                     :address)
""")
_IS_KNOWN = text("SELECT EXISTS (SELECT FROM login_throttle WHERE key = :device AND is_known)")
_CLEAR = text("UPDATE login_throttle SET failures = 0, blocked_until = NULL WHERE key = :key")
_KNOW = text("""
INSERT INTO login_throttle AS t (key, is_known) VALUES (:device, true)
ON CONFLICT (key) DO UPDATE
SET failures = 0, blocked_until = NULL, last_at = clock_timestamp(), is_known = true
""")
_DELETE = text(f"""
DELETE FROM login_throttle
WHERE last_at < now() - CASE WHEN is_known THEN interval '{_KNOWN}' ELSE interval '{_FORGOTTEN}' END
""")


def origin(username: str, client: Client) -> str:
    """Return what counts as one origin of logins: a browser that the user knows, or an address.

    Who guesses from the user's own network, which may be a whole hospital's, uses up the limit of
    that network, and not the one of the user's browser.
    """
    if client.device:
        device = _key(username, "device", client.device)
        if aside.run(lambda session: session.scalar(_IS_KNOWN, {"device": device}), twice=True):
            return device
    return origins.network(client)


def reserve(username: str, client: Client) -> str:
    """Count an attempt as failed and return its key, raising LoginDelayed while one has to wait."""
    security = clinic().security
    keys = {
        "device": _key(username, "device", client.device) if client.device else None,
        "address": _key(username, "address", origins.network(client)),
    }
    limits = {"free": security.login_attempts, "longest": security.login_delay}

    def count(session: Session) -> tuple[str | None, float]:
        if random.randrange(_SWEEP) == 0:  # nosec B311: no secret hangs on it
            session.execute(_DELETE)
        key = session.scalar(_RESERVE, {**keys, **limits})
        return key, 0 if key else session.scalar(_WAIT, keys) or 0

    key, wait = aside.run(count, twice=True)
    if key is None:
        raise LoginDelayed(max(1, math.ceil(wait)))
    return key


def clear(session: Session, key: str, username: str, device: str) -> None:
    """Forget the failures after a right password, and know the browser from now on."""
    session.execute(_CLEAR, {"key": key})
    if device:
        know(session, username, device)


def know(session: Session, username: str, device: str) -> None:
    """Know a browser as one of the user's."""
    session.execute(_KNOW, {"device": _key(username, "device", device)})


def _key(username: str, kind: str, origin: str) -> str:
    return hashlib.sha256("\0".join((username, kind, origin)).encode()).hexdigest()

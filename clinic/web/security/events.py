"""The log of what a security reviewer asks for: security_events."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from clinic.web.identity import Client, Identity
from clinic.web.security import aside, limits, origins
from clinic.web.security.errors import RateLimited

_LONGEST = 2000  # characters of a value in the details
_RECORD = (
    "SELECT record_event(:event, :user_id, :hospital_id, :username, CAST(:address AS inet),"
    " :agent, CAST(:details AS jsonb))"
)


def record(
    event: str,
    client: Client,
    *,
    identity: Identity | None = None,
    username: str = "",
    user_id: UUID | None = None,
    hospital_id: UUID | None = None,
    **details: Any,
) -> None:
    """Record an event (`login`, `denied`, `password_changed`), in a transaction of its own.

    Whose it is: an identity, else what is known of it. Details whose name says that they are secret
    are left out.
    """
    if identity is not None:
        user_id, hospital_id = identity.user_id, identity.hospital_id
        username = identity.username
    aside.row(
        _RECORD,
        twice=True,
        event=event,
        user_id=user_id,
        hospital_id=hospital_id,
        username=origins.bounded(username) or None,
        address=origins.address(client),
        agent=origins.agent(client),
        details=json.dumps({name: _plain(value) for name, value in details.items()}),
    )


def denied(client: Client, identity: Identity, *, module: str, action: str, path: str) -> None:
    """Record that a user lacks a permission: as often as somebody would read it, and no more."""
    try:
        limits.hit("denied", str(identity.user_id))
    except RateLimited:
        return
    record("denied", client, identity=identity, permission=f"{module}.{action}", path=path)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int)):
        return value
    return origins.bounded(str(value), _LONGEST)

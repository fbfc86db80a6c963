"""Who sends a request, and from where."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from flask import request

from clinic.web import devices

_LONGEST_AGENT = 400  # characters of a User-Agent that are kept


@dataclass(frozen=True)
class Identity:
    """A user with a session that is valid now.

    `permissions` are of the form `appointments.add`: the code of a module, and one of view, add,
    edit, delete and export. `kind` is `web` or `api`.
    """

    user_id: UUID
    hospital_id: UUID
    session_id: UUID
    username: str
    name: str
    staff_id: UUID | None
    patient_id: UUID | None
    roles: frozenset[str]
    permissions: frozenset[str]
    kind: str
    expires_at: datetime

    def may(self, module: str, action: str) -> bool:
        """Return whether a role of the user allows an action in a module."""
        return f"{module}.{action}" in self.permissions


@dataclass(frozen=True)
class Client:
    """The client of a request; `device` is empty for one that nobody has logged in with before."""

    address: str
    user_agent: str
    device: str = ""


def client() -> Client:
    """Return the client of the current request."""
    agent = request.user_agent.string.replace("\0", "")[:_LONGEST_AGENT]
    return Client(address=request.remote_addr or "", user_agent=agent, device=devices.known())

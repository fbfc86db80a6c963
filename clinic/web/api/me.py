"""Who sends the request."""

from __future__ import annotations

from sqlalchemy.orm import Session

from clinic.web.api.answers import Me
from clinic.web.api.blueprint import api
from clinic.web.api.guards import token_required
from clinic.web.api.operations import answers
from clinic.web.identity import Identity


@api.get("/me")
@answers(Me)
@token_required
def me(session: Session, identity: Identity) -> Me:
    """Return the user of the token, with roles and permissions as they are now."""
    return Me(
        user_id=identity.user_id,
        hospital_id=identity.hospital_id,
        username=identity.username,
        name=identity.name,
        staff_id=identity.staff_id,
        patient_id=identity.patient_id,
        roles=sorted(identity.roles),
        permissions=sorted(identity.permissions),
    )

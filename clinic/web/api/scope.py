"""Which rows a user may see: those of the hospital, for a patient only the own ones.

The first wall. The second one is in the database, whose policies know the hospital alone.
"""

from __future__ import annotations

from typing import TypeVar
from uuid import UUID

from sqlalchemy import Select, inspect, select
from sqlalchemy.orm import Session

from clinic.models import Appointment, Consultation, Invoice, Patient
from clinic.web.api.problems import missing
from clinic.web.identity import Identity

Row = TypeVar("Row", Patient, Appointment, Consultation, Invoice)


def visible(kind: type[Row], identity: Identity) -> Select[Row]:
    """Return the query for the rows of a kind that a user may see."""
    statement = select(kind).where(kind.hospital_id == identity.hospital_id)
    if identity.patient_id is not None:
        statement = statement.where(kind.patient_id == identity.patient_id)
    return statement


def one(
    session: Session, kind: type[Row], key: UUID, identity: Identity, *, lock: bool = False
) -> Row:
    """Return the row of a key, raising Rejected (404) where there is none that the user may see.

    With `lock` nobody else changes it until the unit ends.
    """
    (column,) = inspect(kind).primary_key
    statement = visible(kind, identity).where(column == key)
    if lock:
        statement = statement.with_for_update()
    row = session.scalars(statement).one_or_none()
    if row is None:
        raise missing()
    return row

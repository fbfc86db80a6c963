"""Patients of the user's hospital."""

from __future__ import annotations

import secrets
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta
from sqlalchemy.orm import Session

from clinic.models import Patient
from clinic.web.api import scope
from clinic.web.api.answers import PatientSeen
from clinic.web.api.blueprint import api
from clinic.web.api.bodies import NewPatient, PatientChange, given
from clinic.web.api.guards import require_permission, token_required
from clinic.web.api.kinds import Word
from clinic.web.api.operations import answers, asks, created, matches, takes, unchanged
from clinic.web.api.paging import Page, Paged, page
from clinic.web.identity import Identity

_ORDER = (Patient.last_name, Patient.first_name, Patient.patient_id)


class PatientFilter(Paged):
    """Which patients to list."""

    last_name: Annotated[str, Meta(max_length=200)] | None = None  # how it begins
    record_no: Word | None = None
    branch_id: UUID | None = None
    is_active: bool | None = None


@api.get("/patients")
@answers(Page[PatientSeen])
@token_required
@require_permission("patients", "view")
@asks(PatientFilter)
def list_patients(session: Session, identity: Identity, query: PatientFilter) -> Page[PatientSeen]:
    """List patients by name."""
    found = scope.visible(Patient, identity)
    if query.last_name:
        found = found.where(Patient.last_name.istartswith(query.last_name, autoescape=True))
    if query.record_no is not None:
        found = found.where(Patient.record_no == query.record_no)
    if query.branch_id is not None:
        found = found.where(Patient.branch_id == query.branch_id)
    if query.is_active is not None:
        found = found.where(Patient.is_active.is_(query.is_active))
    return page(session, found, _ORDER, query, PatientSeen)


@api.get("/patients/<uuid:patient_id>")
@answers(PatientSeen, problems=(404,))
@token_required
@require_permission("patients", "view")
def show_patient(session: Session, identity: Identity, patient_id: UUID) -> PatientSeen:
    """Return a patient."""
    return seen(scope.one(session, Patient, patient_id, identity))


@api.post("/patients")
@answers(PatientSeen, status=201, problems=(409,))
@token_required
@require_permission("patients", "add")
@takes(NewPatient)
def register_patient(
    session: Session, identity: Identity, body: NewPatient
) -> tuple[PatientSeen, dict[str, str]]:
    """Register a patient."""
    record_no = body.record_no or f"P{secrets.token_hex(5).upper()}"
    values = given(body) | {"record_no": record_no, "hospital_id": identity.hospital_id}
    patient = Patient(**values)
    session.add(patient)
    session.flush()
    session.refresh(patient)
    return created(seen(patient), patient.patient_id)


@api.patch("/patients/<uuid:patient_id>")
@answers(PatientSeen, problems=(404,))
@token_required
@require_permission("patients", "edit")
@matches(required=True)
@takes(PatientChange)
def change_patient(
    session: Session, identity: Identity, patient_id: UUID, body: PatientChange
) -> PatientSeen:
    """Change a patient, if nobody else has since it was read."""
    patient = scope.one(session, Patient, patient_id, identity, lock=True)
    unchanged(patient)
    for name, value in given(body).items():
        setattr(patient, name, value)
    session.flush()
    session.refresh(patient)
    return seen(patient)


def seen(patient: Patient) -> PatientSeen:
    """Return what the API shows of a patient."""
    return msgspec.convert(patient, PatientSeen, from_attributes=True)

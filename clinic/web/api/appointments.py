"""Appointments: the hospital's for its staff, the own ones for a patient."""

from __future__ import annotations

import datetime
from uuid import UUID

import msgspec
from msgspec import UNSET
from sqlalchemy.orm import Session

from clinic.models import Appointment
from clinic.web.api import booking, kinds, scope
from clinic.web.api.answers import AppointmentSeen
from clinic.web.api.blueprint import api
from clinic.web.api.bodies import AppointmentChange, NewAppointment
from clinic.web.api.guards import require, require_permission, token_required
from clinic.web.api.kinds import AppointmentStatus, Moment
from clinic.web.api.operations import answers, asks, created, matches, takes, unchanged
from clinic.web.api.paging import Page, Paged, page
from clinic.web.api.problems import conflict
from clinic.web.identity import Identity

_ORDER = (Appointment.starts_at, Appointment.appointment_id)
_OPEN = ("booked", "arrived")


class AppointmentFilter(Paged):
    """Which appointments to list."""

    starts_from: Moment | None = None
    starts_before: Moment | None = None
    status: AppointmentStatus | None = None
    staff_id: UUID | None = None
    patient_id: UUID | None = None


@api.get("/appointments")
@answers(Page[AppointmentSeen])
@token_required
@require_permission("appointments", "view")
@asks(AppointmentFilter)
def list_appointments(
    session: Session, identity: Identity, query: AppointmentFilter
) -> Page[AppointmentSeen]:
    """List appointments, the earliest first."""
    found = scope.visible(Appointment, identity)
    if query.starts_from is not None:
        found = found.where(Appointment.starts_at >= query.starts_from)
    if query.starts_before is not None:
        found = found.where(Appointment.starts_at < query.starts_before)
    if query.status is not None:
        found = found.where(Appointment.status == query.status)
    if query.staff_id is not None:
        found = found.where(Appointment.staff_id == query.staff_id)
    if query.patient_id is not None:
        found = found.where(Appointment.patient_id == query.patient_id)
    return page(session, found, _ORDER, query, AppointmentSeen)


@api.get("/appointments/<uuid:appointment_id>")
@answers(AppointmentSeen, problems=(404,))
@token_required
@require_permission("appointments", "view")
def show_appointment(session: Session, identity: Identity, appointment_id: UUID) -> AppointmentSeen:
    """Return an appointment."""
    return seen(scope.one(session, Appointment, appointment_id, identity))


@api.post("/appointments")
@answers(AppointmentSeen, status=201, problems=(409,))
@token_required
@require_permission("appointments", "add")
@takes(NewAppointment)
def book_appointment(
    session: Session, identity: Identity, body: NewAppointment
) -> tuple[AppointmentSeen, dict[str, str]]:
    """Book a visit: 409 where its time is taken, or a patient has booked 10 that lie ahead."""
    staff = booking.staff(session, identity, body.staff_id)
    appointment = Appointment(
        hospital_id=identity.hospital_id,
        patient_id=booking.patient(session, identity, body.patient_id),
        branch_id=body.branch_id or staff.branch_id,
        staff_id=staff.staff_id,
        channel="web" if identity.patient_id else body.channel,
        reason=body.reason,
    )
    booking.must_be_few(session, identity)
    booking.place(session, appointment, body.starts_at)
    session.add(appointment)
    session.flush()
    session.refresh(appointment)
    return created(seen(appointment), appointment.appointment_id)


@api.patch("/appointments/<uuid:appointment_id>")
@answers(AppointmentSeen, problems=(404, 409))
@token_required
@require_permission("appointments", "edit")
@matches(required=True)
@takes(AppointmentChange)
def change_appointment(
    session: Session, identity: Identity, appointment_id: UUID, body: AppointmentChange
) -> AppointmentSeen:
    """Move an appointment, or note what became of it, if nobody else has changed it meanwhile."""
    appointment = scope.one(session, Appointment, appointment_id, identity, lock=True)
    unchanged(appointment)
    _must_be_open(appointment)
    if body.staff_id is not UNSET:
        staff = booking.staff(session, identity, body.staff_id)
        appointment.staff_id, appointment.branch_id = staff.staff_id, staff.branch_id
    if body.staff_id is not UNSET or body.starts_at is not UNSET:
        booking.patient(session, identity, appointment.patient_id)
        starts_at = appointment.starts_at if body.starts_at is UNSET else body.starts_at
        booking.place(session, appointment, starts_at)
    if body.status is not UNSET:
        _must_be_its_time(appointment, body.status)
        appointment.status = body.status
    if body.reason is not UNSET:
        appointment.reason = body.reason
    session.flush()
    session.refresh(appointment)
    return seen(appointment)


@api.post("/appointments/<uuid:appointment_id>/cancel")
@answers(AppointmentSeen, problems=(404, 409))
@token_required
@require_permission("appointments", "view")
@matches(required=False)
def cancel_appointment(
    session: Session, identity: Identity, appointment_id: UUID
) -> AppointmentSeen:
    """Cancel an appointment; its hour is free again. Patients may cancel what lies ahead."""
    appointment = scope.one(session, Appointment, appointment_id, identity, lock=True)
    if identity.patient_id is None:
        require(identity, "appointments", "edit")
    elif appointment.starts_at <= datetime.datetime.now(datetime.timezone.utc):
        raise conflict("starts_at", "is over: ask the hospital")
    unchanged(appointment)
    _must_be_open(appointment)
    appointment.status = "cancelled"
    session.flush()
    session.refresh(appointment)
    return seen(appointment)


def seen(appointment: Appointment) -> AppointmentSeen:
    """Return what the API shows of an appointment."""
    return msgspec.convert(appointment, AppointmentSeen, from_attributes=True)


def _must_be_its_time(appointment: Appointment, status: str) -> None:
    """Refuse to say of a visit what cannot be known yet; who comes early has arrived on its day."""
    now, starts_at = datetime.datetime.now(datetime.timezone.utc), appointment.starts_at
    if status == "no_show" and starts_at > now:
        raise conflict("status", f"the visit begins at {kinds.said(starts_at)} only")
    day = starts_at.astimezone(datetime.timezone.utc).date()
    if day > now.date():
        raise conflict("status", f"the visit is on {day} only")


def _must_be_open(appointment: Appointment) -> None:
    if appointment.status not in _OPEN:
        raise conflict("status", f"is {appointment.status} already")

"""What a booking needs: somebody who sees patients, a patient, a time at which both are free."""

from __future__ import annotations

import datetime
from uuid import UUID

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from clinic.models import Appointment, Patient, Staff
from clinic.web import calendar
from clinic.web.api.problems import Rejected, conflict, wrong
from clinic.web.calendar import Times
from clinic.web.identity import Identity


def staff(session: Session, identity: Identity, staff_id: UUID) -> Staff:
    """Return who is to see the patient, raising Rejected for those who see none."""
    today = datetime.datetime.now(datetime.timezone.utc).date()
    found = session.scalar(
        select(Staff).where(Staff.hospital_id == identity.hospital_id, Staff.staff_id == staff_id)
    )
    if found is None:
        raise wrong("staff_id", "does not work for this hospital")
    if found.job not in calendar.SEEN_BY or (found.left_on is not None and found.left_on <= today):
        raise wrong("staff_id", "receives no patients")
    return found


def patient(session: Session, identity: Identity, asked: UUID | None) -> UUID:
    """Return whom a booking is for: a patient books for nobody else.

    The row is locked, so that two bookings for one patient see each other.
    """
    if identity.patient_id is not None and asked not in (None, identity.patient_id):
        raise wrong("patient_id", "is not you")
    if (patient_id := identity.patient_id or asked) is None:
        raise wrong("patient_id", "is missing")
    found = session.scalar(
        select(Patient.patient_id)
        .where(
            Patient.hospital_id == identity.hospital_id,
            Patient.patient_id == patient_id,
            Patient.is_active,
        )
        .with_for_update(key_share=True)
    )
    if found is None:
        raise wrong("patient_id", "is no patient of this hospital")
    return found


def must_be_few(session: Session, identity: Identity) -> None:
    """Raise Rejected for a patient who has booked enough; to be called after `patient`."""
    if calendar.is_enough(session, identity):
        raise Rejected(
            409,
            f"{calendar.MOST_AHEAD} visits that you have booked lie ahead: cancel one, or ask the "
            "hospital",
        )


def place(session: Session, appointment: Appointment, starts_at: datetime.datetime) -> None:
    """Give an appointment its time, raising Rejected for one that is none or is given away.

    Between this look and the write somebody else may be faster: the index on the hours of the staff
    lets one in.
    """
    times = _visit(session, appointment.hospital_id, starts_at)
    others = Appointment.appointment_id.is_distinct_from(appointment.appointment_id)
    with session.no_autoflush:
        for owner, what in (
            (Appointment.staff_id == appointment.staff_id, "this hour is taken"),
            (Appointment.patient_id == appointment.patient_id, "the patient is elsewhere then"),
        ):
            taken = calendar.taken(session, times.starts_at.date(), and_(owner, others))
            if any(map(times.meets, taken)):
                raise conflict("starts_at", what)
    appointment.starts_at, appointment.ends_at = times.starts_at, times.ends_at


def _visit(session: Session, hospital_id: UUID, starts_at: datetime.datetime) -> Times:
    """Return the visit that begins at a time, raising Rejected where none does."""
    minutes = calendar.slot_minutes(session, hospital_id)
    day = starts_at.astimezone(datetime.timezone.utc).date()  # a server may have another zone
    for times in calendar.slots(day, minutes):
        if times.starts_at == starts_at:
            return times
    raise wrong(
        "starts_at",
        f"expected the beginning of a visit: every {minutes} minutes of a working day, from "
        f"{calendar.OPENS:%H:%M} to {calendar.CLOSES:%H:%M} UTC",
    )

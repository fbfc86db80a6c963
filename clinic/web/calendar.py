"""Times at which somebody can be seen: half hours of working days that nothing else takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session

from clinic.models import Appointment, Hospital, Staff
from clinic.web.identity import Identity

OPENS, CLOSES = time(8), time(17)
SEEN_BY = ("doctor", "therapist")
MOST_AHEAD = 10  # visits that patients may have booked themselves
_SLOT = 30  # minutes, where the hospital says nothing else
_SATURDAY = 5


@dataclass(frozen=True)
class Times:
    """A part of a day, its end not counted in."""

    starts_at: datetime
    ends_at: datetime

    def meets(self, other: Times) -> bool:
        """Return whether both have a moment in common."""
        return self.starts_at < other.ends_at and other.starts_at < self.ends_at


def slots(day: date, minutes: int) -> list[Times]:
    """Return the times of a day that may be booked at all; none on a weekend."""
    if day.weekday() >= _SATURDAY:
        return []
    length = timedelta(minutes=minutes)
    start = datetime.combine(day, OPENS, timezone.utc)
    end = datetime.combine(day, CLOSES, timezone.utc)
    count = (end - start) // length
    return [Times(start + length * n, start + length * (n + 1)) for n in range(count)]


def free(offered: Sequence[Times], taken: Iterable[Times], now: datetime) -> list[Times]:
    """Return what is offered after now and meets nothing that is taken."""
    kept = list(taken)
    later = (each for each in offered if each.starts_at > now)
    return [each for each in later if not any(each.meets(other) for other in kept)]


def slot_minutes(session: Session, hospital_id: UUID) -> int:
    """Return how long a visit takes in a hospital."""
    settings = session.scalar(select(Hospital.settings).where(Hospital.hospital_id == hospital_id))
    minutes = (settings or {}).get("slot_minutes")
    return minutes if isinstance(minutes, int) and 5 <= minutes <= 240 else _SLOT


def taken(session: Session, day: date, whose: ColumnElement[bool]) -> list[Times]:
    """Return the times of a day that are given away, of a member of staff or of a patient."""
    start = datetime.combine(day, time(), timezone.utc)
    found = select(Appointment.starts_at, Appointment.ends_at).where(
        whose,
        Appointment.status != "cancelled",
        Appointment.starts_at < start + timedelta(days=1),
        Appointment.ends_at > start,
    )
    return [Times(*row) for row in session.execute(found)]


def free_times(session: Session, doctor: Staff, day: date, now: datetime) -> list[Times]:
    """Return the times of a day at which somebody can still be booked."""
    offered = slots(day, slot_minutes(session, doctor.hospital_id))
    return free(offered, taken(session, day, Appointment.staff_id == doctor.staff_id), now)


def is_enough(session: Session, identity: Identity) -> bool:
    """Return whether a patient has booked as many visits as may lie ahead; of staff, never.

    The row of the patient is locked, so that two bookings count each other.
    """
    if identity.patient_id is None:
        return False
    ahead = select(func.count()).where(
        Appointment.hospital_id == identity.hospital_id,
        Appointment.patient_id == identity.patient_id,
        Appointment.created_by == identity.username,
        Appointment.status == "booked",
        Appointment.starts_at > func.now(),
    )
    return (session.scalar(ahead) or 0) >= MOST_AHEAD


def bookable(hospital_id: UUID, today: date) -> Select[Staff]:
    """Return the query for those who see patients in a hospital."""
    return select(Staff).where(
        Staff.hospital_id == hospital_id,
        Staff.job.in_(SEEN_BY),
        (Staff.left_on.is_(None)) | (Staff.left_on > today),
    )


def doctors(session: Session, hospital_id: UUID, today: date) -> list[Staff]:
    """Return who sees patients in a hospital, by name."""
    found = bookable(hospital_id, today)
    return list(session.scalars(found.order_by(Staff.last_name, Staff.first_name)))

"""Who sees patients, and when somebody can be booked: what a booking is written from."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from uuid import UUID

import msgspec
from sqlalchemy import Select
from sqlalchemy.orm import Session

from clinic.models import Staff
from clinic.web import calendar
from clinic.web.api import kinds
from clinic.web.api.answers import DaySeen, StaffSeen, VisitSeen
from clinic.web.api.blueprint import api
from clinic.web.api.bodies import Sent
from clinic.web.api.guards import require_permission, token_required
from clinic.web.api.operations import answers, asks
from clinic.web.api.paging import Page, Paged, page
from clinic.web.api.problems import Fault, missing
from clinic.web.identity import Identity

_ORDER = (Staff.last_name, Staff.first_name, Staff.staff_id)


class StaffFilter(Paged):
    """Which of those who see patients to list."""

    branch_id: UUID | None = None


class DayFilter(Sent):
    """On which day; today where none is named."""

    day: datetime.date | None = None

    def faults(self) -> Iterator[Fault]:
        """Yield what the types cannot tell."""
        if self.day is not None:
            yield from kinds.bookable("day", self.day)


@api.get("/staff")
@answers(Page[StaffSeen])
@token_required
@require_permission("appointments", "add", or_="appointments.edit")
@asks(StaffFilter)
def list_staff(session: Session, identity: Identity, query: StaffFilter) -> Page[StaffSeen]:
    """List who can be booked, by name."""
    found = _bookable(identity)
    if query.branch_id is not None:
        found = found.where(Staff.branch_id == query.branch_id)
    return page(session, found, _ORDER, query, StaffSeen)


@api.get("/staff/<uuid:staff_id>/free")
@answers(DaySeen, problems=(404,))
@token_required
@require_permission("appointments", "add", or_="appointments.edit")
@asks(DayFilter)
def list_free_times(
    session: Session, identity: Identity, staff_id: UUID, query: DayFilter
) -> DaySeen:
    """List the times of a day at which somebody can still be booked."""
    staff = session.scalar(_bookable(identity).where(Staff.staff_id == staff_id))
    if staff is None:
        raise missing()
    day = query.day or _now().date()
    times = calendar.free_times(session, staff, day, _now())
    free = [msgspec.convert(each, VisitSeen, from_attributes=True) for each in times]
    return DaySeen(staff_id=staff_id, day=day, free=free)


def _bookable(identity: Identity) -> Select[Staff]:
    return calendar.bookable(identity.hospital_id, _now().date())


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)

"""Book an appointment: somebody to see and a day, then one of its free times."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING
from uuid import UUID

from flask import flash, redirect, render_template, request, url_for
from sqlalchemy import Select, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from clinic.models import Appointment, Patient, Staff
from clinic.web import calendar, constraints, units
from clinic.web.calendar import Times
from clinic.web.identity import Identity
from clinic.web.pages import guards
from clinic.web.pages.blueprint import pages
from clinic.web.pages.fields import values
from clinic.web.pages.forms import BookingForm, DayForm
from clinic.web.pages.texts import day, moment, time

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

SLOT = "uq_appointments_slot"
TAKEN = "This time was taken a moment ago. Choose another one."
BUSY = "The patient has another appointment at this time."
MOST_AHEAD = calendar.MOST_AHEAD
ENOUGH = f"{MOST_AHEAD} visits that you have booked lie ahead. Cancel one, or call the hospital."
UNKNOWN = "There is no patient with this number or name."
WHO = "Choose the patient whom you mean."
MOST = 10
MANY = f"More than {MOST} patients are called like this. Enter more of the name."


@dataclass(frozen=True)
class Offer:
    """The free times of somebody on a day."""

    doctor: Staff | None = None
    times: list[Times] = field(default_factory=list)

    @property
    def clock(self) -> list[str]:
        """The times as a form says them."""
        return [time(each.starts_at) for each in self.times]


@pages.route("/appointments/new", methods=["GET", "POST"])
@guards.permitted("appointments", "add")
def book_appointment(identity: Identity) -> ResponseReturnValue:
    """Offer the free times of a day, which the address names, and book one."""
    asked, chosen = DayForm(request.args), BookingForm()
    offer = units.run(identity, lambda session: _offer(session, identity, asked), read_only=True)
    chosen.offer(offer.clock, own=identity.patient_id is not None)
    status = 422 if asked.errors else 200
    if request.method == "POST":
        valid = offer.doctor and chosen.validate()
        if not valid or (record_no := _record_no(identity, chosen)) is None:
            status = 422
        elif booked := _book(identity, offer, chosen, record_no):
            flash(f"The appointment on {moment(booked.starts_at)} is booked.", "success")
            return redirect(url_for("pages.appointments"))
        else:
            status = 409 if chosen.time.errors else 422
            offer = _without(offer, chosen)
    page = render_template("appointments/book.html", asked=asked, chosen=chosen, offer=offer)
    return page, status


def _without(offer: Offer, chosen: BookingForm) -> Offer:
    """Offer no more what somebody else has taken."""
    if TAKEN not in chosen.time.errors:
        return offer
    left = [each for each in offer.times if time(each.starts_at) != chosen.time.data]
    fewer = replace(offer, times=left)
    chosen.offer(fewer.clock, own=chosen.own)
    return fewer


def _offer(session: Session, identity: Identity, asked: DayForm) -> Offer:
    """Return what there is on the day that is asked for, nothing where that is not valid."""
    now = datetime.now(timezone.utc)
    staff = calendar.doctors(session, identity.hospital_id, now.date())
    asked.offer([(str(each.staff_id), _words(each)) for each in staff], now.date())
    is_first = request.method == "GET" and not request.args
    if is_first or not asked.validate():
        return Offer()
    doctor = next(each for each in staff if str(each.staff_id) == asked.doctor.data)
    return Offer(doctor, calendar.free_times(session, doctor, asked.day.data, now))


def _words(staff: Staff) -> str:
    return f"{staff.first_name} {staff.last_name}, {staff.specialty or staff.job}"


def _record_no(identity: Identity, chosen: BookingForm) -> str | None:
    """Return the number of the patient who was named; None, with the reason in the form, if none.

    Of those who are found by name somebody is to choose, also where there is only one. A patient
    names nobody.
    """
    text: str = chosen.record_no.data or ""
    if chosen.own:
        return ""

    def look(session: Session) -> list[Patient] | None:
        if session.scalar(_patients(identity).where(Patient.record_no == text)):
            return None
        return _named(session, identity, text)

    found = units.run(identity, look, read_only=True)
    if found is None:
        return text
    if not found or len(found) > MOST:
        chosen.refuse("record_no", MANY if found else UNKNOWN)
        return None
    chosen.suggest([(each.record_no, _person(each)) for each in found])
    if chosen.match.data in values(chosen.match):
        return str(chosen.match.data)
    chosen.refuse("match", WHO)
    return None


def _named(session: Session, identity: Identity, text: str) -> list[Patient]:
    """Return patients whose name has a text in it, one more than are shown; for those who may."""
    if not identity.may("patients", "view"):
        return []
    full = Patient.first_name + " " + Patient.last_name
    found = _patients(identity).where(full.icontains(text, autoescape=True))
    order = (Patient.last_name, Patient.first_name, Patient.record_no)
    return list(session.scalars(found.order_by(*order).limit(MOST + 1)))


def _patients(identity: Identity) -> Select[Patient]:
    return select(Patient).where(Patient.hospital_id == identity.hospital_id, Patient.is_active)


def _person(patient: Patient) -> str:
    name = f"\u2068{patient.first_name} {patient.last_name}\u2069"  # its direction is its own
    return f"{name}, born {day(patient.born_on)}, {patient.record_no}"


def _book(identity: Identity, offer: Offer, chosen: BookingForm, record_no: str) -> Times | None:
    """Book the time that was chosen; None, with the reason in the form, where it is gone."""
    times = next(each for each in offer.times if time(each.starts_at) == chosen.time.data)
    doctor = offer.doctor
    assert doctor is not None

    def book(session: Session) -> tuple[str, str] | None:
        patient_id = _patient(session, identity, record_no)
        if patient_id is None:
            return "record_no", UNKNOWN
        if calendar.is_enough(session, identity):
            return "time", ENOUGH
        own = Appointment.patient_id == patient_id
        if any(map(times.meets, calendar.taken(session, times.starts_at.date(), own))):
            return "time", BUSY
        session.add(
            Appointment(
                hospital_id=identity.hospital_id,
                branch_id=doctor.branch_id,
                patient_id=patient_id,
                staff_id=doctor.staff_id,
                starts_at=times.starts_at,
                ends_at=times.ends_at,
                channel="web" if identity.patient_id else "phone",
                reason=chosen.reason.data or None,
            )
        )
        return None

    try:
        refused = units.run(identity, book)
    except IntegrityError as exc:  # somebody else was faster: the index lets one in
        if constraints.violated(exc) != SLOT:
            raise
        refused = "time", TAKEN
    if refused is None:
        return times
    chosen.refuse(*refused)
    return None


def _patient(session: Session, identity: Identity, record_no: str) -> UUID | None:
    """Return whom a booking is for, locked, so that two bookings of one patient see each other."""
    mine = Patient.patient_id == identity.patient_id
    return session.scalar(
        select(Patient.patient_id)
        .where(
            Patient.hospital_id == identity.hospital_id,
            mine if identity.patient_id else Patient.record_no == record_no,
            Patient.is_active,
        )
        .with_for_update(key_share=True)
    )

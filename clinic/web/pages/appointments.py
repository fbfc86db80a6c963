"""Appointments: list and cancel. Patients have their own, staff those of their hospital."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING
from uuid import UUID

from flask import abort, flash, redirect, render_template, request, url_for
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from clinic.models import Appointment, Patient, Staff
from clinic.web import units
from clinic.web.identity import Identity
from clinic.web.pages import guards, listing
from clinic.web.pages.blueprint import pages
from clinic.web.pages.forms import AppointmentFilter
from clinic.web.pages.listing import Query
from clinic.web.pages.texts import moment

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue


@dataclass(frozen=True)
class Visit:
    """An appointment with the names of its people."""

    appointment: Appointment
    patient: str
    record_no: str
    doctor: str
    may_cancel: bool = False


def visits(identity: Identity) -> Query:
    """Return the appointments that somebody may see: a patient only their own."""
    found: Query = select(
        Appointment,
        Patient.first_name + " " + Patient.last_name,
        Patient.record_no,
        Staff.first_name + " " + Staff.last_name,
    )
    found = (
        found.join(Patient, Patient.patient_id == Appointment.patient_id)
        .join(Staff, Staff.staff_id == Appointment.staff_id)
        .where(Appointment.hospital_id == identity.hospital_id)
    )
    if identity.staff_id is None:
        found = found.where(Appointment.patient_id == identity.patient_id)
    return found


def read(session: Session, identity: Identity, found: Query) -> list[Visit]:
    """Return the appointments of a query."""
    now = datetime.now(timezone.utc)
    return [
        Visit(appointment, patient, record_no, doctor, may_cancel(identity, appointment, now))
        for appointment, patient, record_no, doctor in session.execute(found)
    ]


def may_cancel(identity: Identity, appointment: Appointment, now: datetime) -> bool:
    """Return whether somebody may cancel: what is booked, patients only before it begins."""
    if appointment.status != "booked":
        return False
    if identity.staff_id is None:
        return identity.may("appointments", "add") and appointment.starts_at > now
    return identity.may("appointments", "edit")


@pages.get("/appointments")
@guards.permitted("appointments", "view")
def appointments(identity: Identity) -> ResponseReturnValue:
    """List appointments, by period, status and name."""
    form, number = AppointmentFilter(request.args), listing.number()
    if not form.validate():
        empty: listing.Page[Visit] = listing.Page([], 0)
        return render_template("appointments/list.html", form=form, page=empty), 422
    with units.unit(identity, read_only=True) as session:
        found = _filtered(visits(identity), form)
        total = listing.total(session, found)
        descending = form.period.data != "upcoming"
        order = Appointment.starts_at.desc() if descending else Appointment.starts_at
        part = found.order_by(order, Appointment.appointment_id)
        rows = read(session, identity, listing.part(part, number))
    query = {name: value for name, value in form.data.items() if value}
    page = listing.Page(rows, total, number, query)
    if number > page.pages:
        abort(404)
    return render_template("appointments/list.html", form=form, page=page)


def _filtered(found: Query, form: AppointmentFilter) -> Query:
    if form.period.data == "upcoming":
        found = found.where(Appointment.ends_at > func.now())
    elif form.period.data == "past":
        found = found.where(Appointment.ends_at <= func.now())
    if form.status.data:
        found = found.where(Appointment.status == form.status.data)
    if form.name.data:
        full = Patient.first_name + " " + Patient.last_name
        part = form.name.data
        found = found.where(or_(full.icontains(part, autoescape=True), Patient.record_no == part))
    return found


@pages.post("/appointments/<uuid:appointment_id>/cancel")
@guards.permitted("appointments", "view")
def cancel_appointment(identity: Identity, appointment_id: UUID) -> ResponseReturnValue:
    """Cancel an appointment; its time is free again."""

    def cancel(session: Session) -> tuple[bool, datetime]:
        row = session.execute(
            visits(identity)
            .where(Appointment.appointment_id == appointment_id)
            .with_for_update(of=Appointment)
        ).one_or_none()
        if row is None:
            abort(404)
        appointment: Appointment = row[0]
        allowed = may_cancel(identity, appointment, datetime.now(timezone.utc))
        if allowed:
            appointment.status = "cancelled"
        return allowed, appointment.starts_at

    done, starts_at = units.run(identity, cancel)
    if done:
        flash(f"The appointment on {moment(starts_at)} is cancelled.", "success")
    else:
        flash(f"The appointment on {moment(starts_at)} cannot be cancelled any more.", "warning")
    return redirect(url_for("pages.appointments"))

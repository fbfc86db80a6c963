"""The first page: what waits for whoever is logged in, by role."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta, timezone
from typing import TYPE_CHECKING, Any

from flask import render_template
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from clinic.models import Appointment, Invoice, Patient, User
from clinic.web import units
from clinic.web.identity import Identity
from clinic.web.pages import guards
from clinic.web.pages.appointments import Visit, read, visits
from clinic.web.pages.blueprint import pages
from clinic.web.pages.listing import Query

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

_SHOWN = 8
_DAY = timedelta(days=1)
_SEE_PATIENTS = {"doctor", "therapist"}
_KEPT = Appointment.status != "cancelled"


@dataclass(frozen=True)
class Agenda:
    """Some appointments under a heading, and what to say where there are none."""

    heading: str
    visits: list[Visit]
    empty: str


@dataclass(frozen=True)
class Figure:
    """A number and what it counts."""

    text: str
    value: str


@pages.get("/")
@guards.signed_in
def dashboard(identity: Identity) -> ResponseReturnValue:
    """Show the next appointments, and figures that a role may see."""
    with units.unit(identity, read_only=True) as session:
        agenda = _agenda(session, identity) if identity.may("appointments", "view") else None
        figures = _figures(session, identity)
    return render_template("dashboard.html", agenda=agenda, figures=figures)


def _agenda(session: Session, identity: Identity) -> Agenda:
    coming = visits(identity).where(
        Appointment.status.in_(("booked", "arrived")), Appointment.ends_at > func.now()
    )
    coming = coming.order_by(Appointment.starts_at, Appointment.appointment_id).limit(_SHOWN)
    if identity.patient_id:
        heading, empty = "Your next appointments", "You have no appointment."
    elif identity.roles & _SEE_PATIENTS:
        coming = coming.where(Appointment.staff_id == identity.staff_id)
        heading, empty = "Your next patients", "Nobody has an appointment with you."
    else:
        coming = coming.where(Appointment.starts_at < _midnight() + _DAY)
        heading, empty = "Today", "Nobody else is expected today."
    return Agenda(heading, read(session, identity, coming), empty)


def _midnight() -> datetime:
    return datetime.combine(datetime.now(timezone.utc).date(), time(), timezone.utc)


def _figures(session: Session, identity: Identity) -> list[Figure]:
    """Count what the modules hold that a role may see; of a patient, what is left to pay."""
    if identity.patient_id:
        owed = _open(identity, func.coalesce(func.sum(Invoice.total - Invoice.paid), 0))
        owed = owed.where(Invoice.patient_id == identity.patient_id)
        return [Figure("To pay", f"{session.scalar(owed):,.2f} EUR")]
    counts = _counts(identity)
    return [
        Figure(words, f"{session.scalar(query):,}")
        for words, module, query in counts
        if identity.may(module, "view")
    ]


def _open(identity: Identity, what: ColumnElement[Any]) -> Query:
    return select(what).where(Invoice.hospital_id == identity.hospital_id, Invoice.status == "open")


def _counts(identity: Identity) -> list[tuple[str, str, Query]]:
    def of(model: Any, *conditions: Any) -> Query:
        mine = model.hospital_id == identity.hospital_id
        return select(func.count()).select_from(model).where(mine, *conditions)

    today = Appointment.starts_at.between(_midnight(), _midnight() + _DAY)
    return [
        ("Appointments today", "appointments", of(Appointment, today, _KEPT)),
        ("Patients", "patients", of(Patient, Patient.is_active)),
        ("Open invoices", "invoices", _open(identity, func.count())),
        ("Users", "users", of(User, User.is_active)),
        ("Disabled users", "users", of(User, ~User.is_active)),
    ]

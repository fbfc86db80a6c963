"""What the API answers: the Structs. Rows of the database become these by their names."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from msgspec import Struct

from clinic.web.api.kinds import (
    AppointmentStatus,
    BloodGroup,
    Channel,
    Gender,
    InvoiceStatus,
    Moment,
)


class Start(Struct, kw_only=True):
    """Where the API is described."""

    openapi: str


class Tokens(Struct, kw_only=True):
    """Tokens of a session: one for requests, one that is good for the next pair of them."""

    access_token: str
    refresh_token: str
    expires_in: int  # seconds, of the access token
    token_type: str = "Bearer"


class Validity(Struct, kw_only=True):
    """What a token is good for."""

    user_id: UUID
    session_id: UUID
    expires_at: Moment
    permissions: list[str]


class Me(Struct, kw_only=True):
    """Who sends the request."""

    user_id: UUID
    hospital_id: UUID
    username: str
    name: str
    staff_id: UUID | None
    patient_id: UUID | None
    roles: list[str]
    permissions: list[str]


class PatientSeen(Struct, kw_only=True):
    """A patient."""

    patient_id: UUID
    branch_id: UUID
    record_no: str
    first_name: str
    last_name: str
    born_on: datetime.date
    gender: Gender
    blood_group: BloodGroup | None
    email: str | None
    phone: str | None
    contact: dict[str, Any]
    allergies: list[str]
    notes: str | None
    is_active: bool
    created_at: Moment
    updated_at: Moment


class AppointmentSeen(Struct, kw_only=True):
    """An appointment."""

    appointment_id: UUID
    branch_id: UUID
    patient_id: UUID
    staff_id: UUID
    starts_at: Moment
    ends_at: Moment
    status: AppointmentStatus
    channel: Channel
    reason: str | None
    created_at: Moment
    updated_at: Moment


class StaffSeen(Struct, kw_only=True):
    """Somebody who sees patients."""

    staff_id: UUID
    branch_id: UUID
    first_name: str
    last_name: str
    job: str
    specialty: str | None


class VisitSeen(Struct, kw_only=True):
    """A time at which a visit can be booked."""

    starts_at: Moment
    ends_at: Moment


class DaySeen(Struct, kw_only=True):
    """The times of a day at which somebody is free."""

    staff_id: UUID
    day: datetime.date
    free: list[VisitSeen]


class BranchSeen(Struct, kw_only=True):
    """A place where the hospital receives patients."""

    branch_id: UUID
    name: str
    address: str
    city: str
    postal_code: str
    phone: str | None
    is_main: bool
    is_active: bool


class ConsultationSeen(Struct, kw_only=True):
    """That somebody was seen, by whom and when; nothing of what was said and found."""

    consultation_id: UUID
    appointment_id: UUID
    patient_id: UUID
    staff_id: UUID
    started_at: Moment


class LineSeen(Struct, kw_only=True):
    """One thing that is paid for."""

    text: str
    amount: Decimal
    code: int | None = None


class InvoiceSeen(Struct, kw_only=True):
    """An invoice; amounts are texts, since JSON's numbers are not exact."""

    invoice_id: UUID
    invoice_no: int
    patient_id: UUID
    consultation_id: UUID
    issued_on: datetime.date
    due_on: datetime.date
    currency: str
    lines: list[LineSeen]
    net: Decimal
    tax: Decimal
    total: Decimal
    paid: Decimal
    status: InvoiceStatus
    created_at: Moment
    updated_at: Moment

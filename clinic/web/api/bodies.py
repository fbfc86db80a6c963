"""What clients send: the Structs, which are in the OpenAPI document too.

So what the document says is what is checked. What a schema cannot say (a day that lies ahead, a
sum) is said by `faults`.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from clinic.web.api import kinds
from clinic.web.api.kinds import (
    Amount,
    BloodGroup,
    Channel,
    Currency,
    Email,
    Gender,
    Line,
    Moment,
    Paragraph,
    Word,
)
from clinic.web.api.problems import Fault


class Sent(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a client sends.

    `paragraphs` are the fields whose text may have several lines, `opaque` those whose text is
    compared and never shown or stored. `instead` says how to get what a field does not take.
    """

    paragraphs: ClassVar[frozenset[str]] = frozenset()
    opaque: ClassVar[frozenset[str]] = frozenset()
    instead: ClassVar[dict[str, str]] = {}

    def faults(self) -> Iterator[Fault]:
        """Yield what the types cannot tell."""
        yield from ()


def given(sent: Sent) -> dict[str, Any]:
    """Return the fields that were sent or have a default; an object within has no nulls."""
    values = {name: getattr(sent, name) for name in sent.__struct_fields__}
    return {name: _plain(value) for name, value in values.items() if value is not UNSET}


def _plain(value: Any) -> Any:
    if isinstance(value, Sent):
        return {name: inner for name, inner in given(value).items() if inner is not None}
    return [_plain(one) for one in value] if isinstance(value, list) else value


# --- auth


class Credentials(Sent):
    """A user name and its password."""

    opaque = frozenset({"password"})

    username: Annotated[str, Meta(min_length=1, max_length=100)]
    password: Annotated[str, Meta(min_length=1, max_length=1024)]


class Refresh(Sent):
    """A token that was got with an access token, and is good for one more of them."""

    refresh_token: Annotated[str, Meta(min_length=1, max_length=200)]


# --- patients


class Contact(Sent):
    """Where somebody lives, and whom to call."""

    street: Line | None = None
    city: Line | None = None
    language: Word | None = None
    insurance_no: Word | None = None
    next_of_kin: Word | None = None
    kin_name: Line | None = None
    kin_phone: Word | None = None


Allergies = Annotated[list[Line], Meta(max_length=50)]


class NewPatient(Sent):
    """A patient to be registered. Without `record_no` one is made up."""

    paragraphs = frozenset({"notes"})

    branch_id: UUID
    first_name: Line
    last_name: Line
    born_on: datetime.date
    record_no: Word | None = None
    gender: Gender = "unknown"
    blood_group: BloodGroup | None = None
    email: Email | None = None
    phone: Word | None = None
    contact: Contact = msgspec.field(default_factory=Contact)
    allergies: Allergies = []
    notes: Paragraph | None = None

    def faults(self) -> Iterator[Fault]:
        """Yield what the types cannot tell."""
        yield from kinds.birthday(self.born_on)


class PatientChange(Sent):
    """What of a patient is to change; what is not there stays."""

    paragraphs = frozenset({"notes"})

    branch_id: UUID | UnsetType = UNSET
    first_name: Line | UnsetType = UNSET
    last_name: Line | UnsetType = UNSET
    born_on: datetime.date | UnsetType = UNSET
    gender: Gender | UnsetType = UNSET
    blood_group: BloodGroup | UnsetType | None = UNSET
    email: Email | UnsetType | None = UNSET
    phone: Word | UnsetType | None = UNSET
    contact: Contact | UnsetType = UNSET
    allergies: Allergies | UnsetType = UNSET
    notes: Paragraph | UnsetType | None = UNSET
    is_active: bool | UnsetType = UNSET

    def faults(self) -> Iterator[Fault]:
        """Yield what the types cannot tell."""
        if self.born_on is not UNSET:
            yield from kinds.birthday(self.born_on)


# --- appointments


class NewAppointment(Sent):
    """A visit of the hospital's length. A patient books for himself; staff name the patient."""

    paragraphs = frozenset({"reason"})

    staff_id: UUID
    starts_at: Moment
    patient_id: UUID | None = None
    branch_id: UUID | None = None
    channel: Channel = "web"
    reason: Paragraph | None = None

    def faults(self) -> Iterator[Fault]:
        """Yield what the types cannot tell."""
        yield from kinds.ahead(self.starts_at)


class AppointmentChange(Sent):
    """What of an appointment is to change; what is not there stays."""

    paragraphs = frozenset({"reason"})
    instead: ClassVar[dict[str, str]] = {"status": "to cancel: POST .../cancel"}

    staff_id: UUID | UnsetType = UNSET
    starts_at: Moment | UnsetType = UNSET
    status: Literal["arrived", "completed", "no_show"] | UnsetType = UNSET
    reason: Paragraph | UnsetType | None = UNSET

    def faults(self) -> Iterator[Fault]:
        """Yield what the types cannot tell."""
        if self.starts_at is not UNSET:
            yield from kinds.ahead(self.starts_at)


# --- invoices


class InvoiceLine(Sent):
    """One thing that is paid for."""

    text: Line
    amount: Amount
    code: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None

    def faults(self) -> Iterator[Fault]:
        """Yield what the types cannot tell."""
        yield from kinds.money("amount", self.amount)


class NewInvoice(Sent):
    """An invoice for a consultation; its net amount is the sum of its lines."""

    consultation_id: UUID
    lines: Annotated[list[InvoiceLine], Meta(min_length=1, max_length=100)]
    issued_on: datetime.date
    due_on: datetime.date
    tax: Amount = Decimal(0)
    currency: Currency = "EUR"

    @property
    def net(self) -> Decimal:
        """The sum of the lines."""
        return sum((line.amount for line in self.lines), Decimal(0))

    def faults(self) -> Iterator[Fault]:
        """Yield what the types cannot tell."""
        amounts = [*kinds.money("tax", self.tax)]
        for number, line in enumerate(self.lines):
            for fault in line.faults():
                amounts.append(Fault(f"lines[{number}].{fault.field}", fault.message))
        yield from amounts
        if not amounts and self.net + self.tax >= kinds.MOST:
            yield Fault("lines", f"expected a total below {kinds.MOST}")
        yield from kinds.day("issued_on", self.issued_on)
        yield from kinds.day("due_on", self.due_on)


class InvoiceChange(Sent):
    """A payment, another day to pay, or the end of an invoice."""

    instead: ClassVar[dict[str, str]] = {"status": "what is paid follows from `paid`"}

    due_on: datetime.date | UnsetType = UNSET
    paid: Amount | UnsetType = UNSET
    status: Literal["void"] | UnsetType = UNSET

    def faults(self) -> Iterator[Fault]:
        """Yield what the types cannot tell."""
        if self.due_on is not UNSET:
            yield from kinds.day("due_on", self.due_on)
        if self.paid is not UNSET:
            yield from kinds.money("paid", self.paid)

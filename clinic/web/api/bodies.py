"""What clients send: the Structs, and how a body or a query becomes one.

The same Structs are in the OpenAPI document, so what it says is what is checked. What a schema
cannot say (a day that lies ahead, a sum) is said by `faults`.
"""

from __future__ import annotations

import datetime
import json
import re
import unicodedata
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, TypeVar
from uuid import UUID

import msgspec
from flask import request
from msgspec import UNSET, Meta, Struct, UnsetType
from werkzeug.exceptions import RequestEntityTooLarge

from clinic.web.api.problems import Fault, Rejected, invalid, wrong

# what a text may not have: control characters, and those that turn the direction of the text around
# them, with which a name is shown as another name. For the document, `_unprintable` checks it.
_NOT_SHOWN = r"\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069"
_NO_BREAK = {"pattern": f"^[^{_NOT_SHOWN}]*[^{_NOT_SHOWN}\\s][^{_NOT_SHOWN}]*$"}
_BREAKS_TOO = {"pattern": f"^([^{_NOT_SHOWN}]|[\\t\\n\\r])*$"}

Line = Annotated[
    str, Meta(min_length=1, max_length=200, pattern=r"\S", extra_json_schema=_NO_BREAK)
]
Word = Annotated[str, Meta(min_length=1, max_length=50, pattern=r"\S", extra_json_schema=_NO_BREAK)]
Paragraph = Annotated[str, Meta(max_length=10_000, extra_json_schema=_BREAKS_TOO)]
Email = Annotated[
    str,
    Meta(
        max_length=200,
        pattern=r"^[^@ ]+@[^@ ]+$",
        extra_json_schema={"pattern": f"^[^@ {_NOT_SHOWN}]+@[^@ {_NOT_SHOWN}]+$"},
    ),
]
Moment = Annotated[datetime.datetime, Meta(tz=True)]
# JSON's numbers are not exact; those of programs that send them are taken all the same
Amount = Annotated[Decimal, Meta(extra_json_schema={"pattern": r"^[0-9]{1,10}(\.[0-9]{1,2})?$"})]
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}$", max_length=3)]
Gender = Literal["female", "male", "other", "unknown"]
BloodGroup = Literal["A+", "A-", "B+", "B-", "AB+", "AB-", "O+", "O-"]
Channel = Literal["phone", "web", "walk_in", "referral"]
AppointmentStatus = Literal["booked", "arrived", "completed", "cancelled", "no_show"]
InvoiceStatus = Literal["open", "paid", "void"]

_AHEAD = datetime.timedelta(days=2 * 366)
_FIRST_BIRTHDAY = datetime.date(1900, 1, 1)
_MOST = Decimal(10) ** 10  # numeric(12, 2) holds less than this
_CENTS = -2

_PATH = re.compile(r" - at `\$\.?(.*)`\Z", re.DOTALL)
_NAMED = re.compile(r"Object (contains unknown|missing required) field `(.*)`\Z", re.DOTALL)
_BREAKS = "\t\n\r"
_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Sent(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a client sends.

    `paragraphs` are the fields whose text may have several lines, `opaque` those whose text is
    compared and never shown or stored.
    """

    paragraphs: ClassVar[frozenset[str]] = frozenset()
    opaque: ClassVar[frozenset[str]] = frozenset()

    def faults(self) -> Iterator[Fault]:
        """Yield what the types cannot tell."""
        yield from ()


Received = TypeVar("Received", bound=Sent)


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
        yield from _birthday(self.born_on)


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
            yield from _birthday(self.born_on)


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
        yield from _ahead(self.starts_at)


class AppointmentChange(Sent):
    """What of an appointment is to change; what is not there stays."""

    paragraphs = frozenset({"reason"})

    staff_id: UUID | UnsetType = UNSET
    starts_at: Moment | UnsetType = UNSET
    status: Literal["arrived", "completed", "no_show"] | UnsetType = UNSET
    reason: Paragraph | UnsetType | None = UNSET

    def faults(self) -> Iterator[Fault]:
        """Yield what the types cannot tell."""
        if self.starts_at is not UNSET:
            yield from _ahead(self.starts_at)


# --- invoices


class InvoiceLine(Sent):
    """One thing that is paid for."""

    text: Line
    amount: Amount
    code: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None

    def faults(self) -> Iterator[Fault]:
        """Yield what the types cannot tell."""
        yield from _money("amount", self.amount)


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
        amounts = [*_money("tax", self.tax)]
        for number, line in enumerate(self.lines):
            for fault in line.faults():
                amounts.append(Fault(f"lines[{number}].{fault.field}", fault.message))
        yield from amounts
        if not amounts and self.net + self.tax >= _MOST:
            yield Fault("lines", f"expected a total below {_MOST}")
        yield from _day("issued_on", self.issued_on)
        yield from _day("due_on", self.due_on)


class InvoiceChange(Sent):
    """A payment, another day to pay, or the end of an invoice."""

    due_on: datetime.date | UnsetType = UNSET
    paid: Amount | UnsetType = UNSET
    status: Literal["void"] | UnsetType = UNSET

    def faults(self) -> Iterator[Fault]:
        """Yield what the types cannot tell."""
        if self.due_on is not UNSET:
            yield from _day("due_on", self.due_on)
        if self.paid is not UNSET:
            yield from _money("paid", self.paid)


# --- what the types cannot tell


def _birthday(day: datetime.date) -> Iterator[Fault]:
    if not _FIRST_BIRTHDAY <= day <= _now().date():
        yield Fault("born_on", f"expected a day from {_FIRST_BIRTHDAY} to today")


def _day(field: str, day: datetime.date) -> Iterator[Fault]:
    if not 2000 <= day.year < 2100:
        yield Fault(field, "expected a day of this century")


def _ahead(starts_at: datetime.datetime) -> Iterator[Fault]:
    if not _now() < starts_at <= _now() + _AHEAD:
        yield Fault("starts_at", "expected a time that lies ahead, at most two years")


def _money(field: str, amount: Decimal) -> Iterator[Fault]:
    # first whether it is a number at all: a comparison with NaN raises
    if not amount.is_finite() or not 0 <= amount < _MOST or _has_fractions(amount):
        yield Fault(field, f"expected an amount from 0.00 to below {_MOST}, in whole cents")


def _has_fractions(amount: Decimal) -> bool:
    exponent = amount.normalize().as_tuple().exponent
    return isinstance(exponent, int) and exponent < _CENTS


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


# --- decoding


def body(kind: type[Received]) -> Received:
    """Return the body of the request, raising Rejected for one that is none of this kind."""
    if request.mimetype != "application/json":
        raise Rejected(415, "expected Content-Type: application/json")
    data = request.get_data()
    if request.content_length is None and len(data) == request.max_content_length:
        raise RequestEntityTooLarge  # of a body without a length, Werkzeug has cut off the rest
    try:
        received = msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as exc:
        raise invalid(_fault(str(exc), "body")) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise Rejected(400, f"the body is no JSON: {_sentence(str(exc))}") from None
    # the decoder takes the last of two: it is for the client to say which one is meant
    if (name := _twice(data)) is not None:
        raise Rejected(
            400,
            "the body has a field twice",
            errors=(Fault(_shown(name), "is there twice"),),
        )
    return _checked(received)


def query(kind: type[Received]) -> Received:
    """Return the query of the request, raising Rejected for one that is none of this kind."""
    values = request.args.to_dict(flat=False)
    for name, several in values.items():
        if len(several) > 1:
            raise wrong(_shown(name), "is there twice")
    given = {name: several[0] for name, several in values.items()}
    try:
        return _checked(msgspec.convert(given, kind, strict=False))
    except msgspec.ValidationError as exc:
        raise invalid(_fault(str(exc), "query")) from None


def in_utc(moment: datetime.datetime) -> datetime.datetime:
    """Return a time in UTC, raising ValueError for one that has none.

    PostgreSQL takes no offset of 16 hours or more, and the ends of the calendar overflow.
    """
    if moment.tzinfo is None:
        raise ValueError("no time zone")
    try:
        return moment.astimezone(datetime.timezone.utc)
    except OverflowError:
        raise ValueError("out of range") from None


def _checked(received: Received) -> Received:
    for name in received.__struct_fields__:
        if isinstance(moment := getattr(received, name), datetime.datetime):
            try:
                setattr(received, name, in_utc(moment))
            except ValueError as exc:
                raise wrong(name, f"is {exc}") from None
    faults = [
        fault
        for fault in (*_unprintable(received, received.paragraphs), *received.faults())
        if fault.field not in received.opaque
    ]
    if faults:
        raise invalid(*faults)
    return received


def _fault(message: str, whole: str) -> Fault:
    """Return the field and the message of an error of msgspec; `whole` is the field of all."""
    path = _PATH.search(message)
    field, text = (path[1], message[: path.start()]) if path else ("", message)
    if named := _NAMED.match(text):
        field = ".".join(filter(None, (field, named[2])))
        text = "is unknown" if named[1] == "contains unknown" else "is missing"
    if text.endswith(r"matching regex '\\S'"):
        text = "expected a text that is not blank"
    return Fault(_shown(field) or whole, _sentence(text))


def _sentence(message: str) -> str:
    return (message[:1].lower() + message[1:]).replace("`", "")


def _shown(field: str) -> str:
    """Return the name of a field, which may be anything, as an answer can repeat it."""
    plain = "".join(letter if letter.isprintable() else "\ufffd" for letter in field[:100])
    return plain + ("..." if len(field) > 100 else "")


class _Twice(Exception):
    """A name is in an object twice."""


def _twice(data: bytes) -> str | None:
    """Return the name that an object of a valid document has twice, None if there is none."""

    def look(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _Twice(name)
            seen.add(name)

    try:  # numbers stay text: as a number, a long one takes long
        json.loads(data, object_pairs_hook=look, parse_int=str, parse_float=str)
    except _Twice as exc:
        return str(exc.args[0])
    return None


def _unprintable(value: Any, paragraphs: frozenset[str], path: str = "") -> Iterator[Fault]:
    """Yield the fields whose text has characters that no text has."""
    if isinstance(value, str):
        field = path.partition("[")[0]
        if fault := _fault_of_text(value, breaks=field in paragraphs):
            yield Fault(path, fault)
    elif isinstance(value, Sent):
        for name in value.__struct_fields__:
            inner = f"{path}.{name}" if path else name
            yield from _unprintable(getattr(value, name), paragraphs, inner)
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _unprintable(one, paragraphs, f"{path}[{number}]")


def _fault_of_text(text: str, *, breaks: bool) -> str:
    if text.isprintable():  # nearly always; names in Arabic or Hebrew are
        return ""
    if "\0" in text:
        return "has a NUL byte"
    if not _TURNS.isdisjoint(text):
        return "has a character that turns the direction of the text"
    controls = [letter for letter in text if unicodedata.category(letter) == "Cc"]
    if any(letter not in _BREAKS for letter in controls):
        return "has a control character"
    return "has a line break or a tab" if controls and not breaks else ""

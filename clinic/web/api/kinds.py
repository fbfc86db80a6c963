"""The kinds of values that clients send, and what of them a type cannot tell."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Literal

from msgspec import Meta

from clinic.web.api.problems import Fault

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
MOST = Decimal(10) ** 10  # numeric(12, 2) holds amounts below this
_CENTS = -2


def birthday(day: datetime.date) -> Iterator[Fault]:
    """Refuse a day before which nobody alive was born, or after today."""
    if not _FIRST_BIRTHDAY <= day <= _now().date():
        yield Fault("born_on", f"expected a day from {_FIRST_BIRTHDAY} to today")


def day(field: str, day: datetime.date) -> Iterator[Fault]:
    """Refuse a day of another century."""
    if not 2000 <= day.year < 2100:
        yield Fault(field, "expected a day of this century")


def ahead(starts_at: datetime.datetime) -> Iterator[Fault]:
    """Refuse a time that is past, or far away."""
    if not _now() < starts_at <= _now() + _AHEAD:
        yield Fault("starts_at", "expected a time that lies ahead, at most two years")


def bookable(field: str, day: datetime.date) -> Iterator[Fault]:
    """Refuse a day on which no visit can be booked: it is over, or far away."""
    if not _now().date() <= day <= (_now() + _AHEAD).date():
        yield Fault(field, "expected today or a day ahead, at most two years")


def money(field: str, amount: Decimal) -> Iterator[Fault]:
    """Refuse what is no amount of money: below zero, not a number, parts of a cent."""
    # first whether it is a number at all: a comparison with NaN raises
    if not amount.is_finite() or not 0 <= amount < MOST or _has_fractions(amount):
        yield Fault(field, f"expected an amount from 0.00 to below {MOST}, in whole cents")


def _has_fractions(amount: Decimal) -> bool:
    exponent = amount.normalize().as_tuple().exponent
    return isinstance(exponent, int) and exponent < _CENTS


def said(moment: datetime.datetime) -> str:
    """Return a time as answers have it."""
    return f"{moment.astimezone(datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)

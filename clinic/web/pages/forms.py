"""What people enter: fields that refuse what no field of the clinic can hold."""

from __future__ import annotations

import unicodedata
from datetime import date, datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlsplit

from flask_wtf import FlaskForm
from wtforms import (
    BooleanField,
    DateField,
    Field,
    HiddenField,
    PasswordField,
    RadioField,
    SelectField,
    SelectMultipleField,
    StringField,
    TextAreaField,
)
from wtforms.fields.choices import SelectChoice
from wtforms.validators import (
    EqualTo,
    InputRequired,
    Length,
    Optional,
    Regexp,
    StopValidation,
    ValidationError,
)

EARLIEST_BIRTH = date(1900, 1, 1)
AHEAD = timedelta(days=180)  # of a booking
LONGEST_PASSWORD = 1024
_LONGEST_PATH = 500
# they change the order of the text around them: a name that has one shows another name
_DIRECTION = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_EMAIL = r"[^@\s]{1,100}@[^@\s]{1,150}"
_OF_USERNAME = (
    "Use 3 to 100 of the letters a to z, digits and . _ @ + -, beginning with a letter or a digit."
)
_USERNAME = r"[a-z0-9][a-z0-9._@+-]{2,99}"


def plain(text: str, *, allowed: str = "") -> str:
    """Return a text without control characters, and without those that turn the text around."""
    return "".join(
        character
        for character in text
        if character in allowed
        or not (character in _DIRECTION or unicodedata.category(character) in ("Cc", "Cs"))
    )


def is_plain(text: str, *, allowed: str = "") -> bool:
    """Return whether a text has none of what `plain` leaves out."""
    return text == plain(text, allowed=allowed)


def local_path(text: str | None) -> str:
    """Return a path of this application, empty for all that a browser would take elsewhere.

    Browsers read a backslash as a slash and leave out tabs and line ends.
    """
    if not text or len(text) > _LONGEST_PATH or not text.startswith("/"):
        return ""
    if text.startswith("//") or "\\" in text or any(ord(character) <= 0x20 for character in text):
        return ""
    if not is_plain(text):
        return ""
    try:
        parts = urlsplit(text)
    except ValueError:
        return ""
    return "" if parts.scheme or parts.netloc else text


class Plain:
    """Refuse control characters; line ends too, unless `lines`."""

    def __init__(self, *, lines: bool = False) -> None:
        self.allowed = "\n\r\t" if lines else ""

    def __call__(self, form: FlaskForm, field: Field) -> None:
        if not is_plain(field.data or "", allowed=self.allowed):
            field.data = plain(field.data, allowed=self.allowed)  # it goes back into the page
            raise StopValidation("It has a character that cannot be stored.")


class Between:
    """Refuse days outside of two days, which are counted in."""

    def __init__(self, first: date, last: date) -> None:
        self.first, self.last = first, last

    def __call__(self, form: FlaskForm, field: Field) -> None:
        if field.data is None:  # it was no day, which is said already
            return
        if not self.first <= field.data <= self.last:
            first, last = (f"{day.day} {day:%B %Y}" for day in (self.first, self.last))
            raise ValidationError(f"Enter a day from {first} to {last}.")


def offered(pairs: list[tuple[str, str]]) -> list[SelectChoice]:
    """Return what a field offers: values with their words."""
    return [SelectChoice(value, label) for value, label in pairs]


def values(field: Field) -> set[str]:
    """Return the values that a field offers."""
    return {choice.value for choice in field.choices}


def stripped(text: str | None) -> str | None:
    """Return a text without the blanks around it."""
    return text.strip() if text else text


def lowered(text: str | None) -> str | None:
    """Return a user name as it is stored."""
    return text.strip().lower() if text else text


def text_field(label: str, *, most: int, needed: str = "", **options: Any) -> StringField:
    """Return a field for one line of at most `most` characters; `needed` says what is missing."""
    return StringField(
        label, [*_presence(needed), Plain(), _at_most(most)], filters=[stripped], **options
    )


def text_area(label: str, *, most: int, **options: Any) -> TextAreaField:
    """Return a field for several lines, which may stay empty."""
    return TextAreaField(
        label, [Optional(), Plain(lines=True), _at_most(most)], filters=[stripped], **options
    )


def password_field(label: str, *, needed: str, **options: Any) -> PasswordField:
    """Return a field for a password, which is taken as it is."""
    checks = [InputRequired(needed), _at_most(LONGEST_PASSWORD)]
    return PasswordField(label, checks, **options)


def _presence(needed: str) -> list[Any]:
    return [InputRequired(needed), _Filled(needed)] if needed else [Optional()]


class _Filled:
    """Refuse a text of nothing but blanks."""

    def __init__(self, needed: str) -> None:
        self.needed = needed

    def __call__(self, form: FlaskForm, field: Field) -> None:
        if not field.data:
            raise StopValidation(self.needed)


def _at_most(most: int) -> Length:
    return Length(max=most, message=f"It may have at most {most} characters.")


class Day(DateField):  # type: ignore[misc]
    """A day, as a browser's own field for days sends it."""

    def process_formdata(self, valuelist: list[Any]) -> None:
        try:
            super().process_formdata(valuelist)
        except ValueError:
            self.raw_data = [plain(each) for each in valuelist]  # it goes back into the page
            raise ValueError("Enter a day as year-month-day, such as 2026-03-31.") from None


class Form(FlaskForm):  # type: ignore[misc]
    """A form whose fields can be refused later than when it was checked."""

    def refuse(self, name: str, message: str) -> None:
        """Say what is wrong with a field."""
        field = self[name]
        field.errors = [*field.errors, message]


class LoginForm(Form):
    """A user name, a password, where to go then."""

    username = StringField(
        "User name", [InputRequired("Enter your user name."), Plain()], filters=[lowered]
    )
    password = PasswordField("Password", [InputRequired("Enter your password.")])
    remember = BooleanField("Keep me logged in on this device")
    next = HiddenField()


class RegistrationForm(Form):
    """A new patient with an account."""

    place = SelectField("Hospital", [InputRequired("Choose a hospital.")], validate_choice=False)
    first_name = text_field("First name", most=200, needed="Enter your first name.")
    last_name = text_field("Last name", most=200, needed="Enter your last name.")
    born_on = Day("Date of birth", [InputRequired("Enter your date of birth.")])
    email = text_field("Email", most=254, needed="Enter your email address.")
    username = StringField(
        "User name",
        [
            InputRequired("Choose a user name."),
            Plain(),
            Regexp(rf"^{_USERNAME}\Z", message=_OF_USERNAME),
        ],
        filters=[lowered],
        description="You log in with it. Letters a to z, digits and . _ @ + -",
    )
    password = password_field("Password", needed="Choose a password.")
    again = password_field("Password again", needed="Enter the password again.")

    def offer(self, places: list[tuple[str, str]]) -> None:
        """Say where one can register."""
        self.place.choices = offered([("", "Choose"), *places])

    def validate_place(self, field: SelectField) -> None:
        """Refuse a place that is not in the list."""
        if field.data not in values(field):
            raise ValidationError("Choose a hospital from the list.")

    def validate_born_on(self, field: Day) -> None:
        """Refuse days on which nobody who lives was born."""
        Between(EARLIEST_BIRTH, datetime.now(timezone.utc).date())(self, field)

    def validate_email(self, field: StringField) -> None:
        """Refuse what cannot be an address."""
        Regexp(rf"^{_EMAIL}\Z", message="Enter an address such as ada@example.org.")(self, field)

    def validate_again(self, field: PasswordField) -> None:
        """Refuse two passwords that differ."""
        EqualTo("password", message="The two passwords differ.")(self, field)


class PasswordForm(Form):
    """A new password for the own account."""

    current = password_field("Current password", needed="Enter your current password.")
    new = password_field("New password", needed="Choose a new password.")
    again = password_field("New password again", needed="Enter the new password again.")

    def validate_again(self, field: PasswordField) -> None:
        """Refuse two passwords that differ."""
        EqualTo("new", message="The two passwords differ.")(self, field)


class DayForm(Form):
    """Whose free times, on which day."""

    class Meta:
        csrf = False  # it changes nothing, and its address can be kept

    doctor = SelectField("Doctor or therapist", validate_choice=False)
    day = Day("Day", [InputRequired("Choose a day.")])

    def offer(self, doctors: list[tuple[str, str]], today: date) -> None:
        """Say who can be seen, and from which day on."""
        self.doctor.choices = offered([("", "Choose"), *doctors])
        self.first, self.last = today, today + AHEAD
        self.day.render_kw = {"min": self.first.isoformat(), "max": self.last.isoformat()}

    def validate_doctor(self, field: SelectField) -> None:
        """Refuse somebody who is not in the list."""
        if field.data not in values(field) - {""}:
            raise ValidationError("Choose a doctor or therapist.")

    def validate_day(self, field: Day) -> None:
        """Refuse days that are over, or too far ahead."""
        Between(self.first, self.last)(self, field)


class BookingForm(Form):
    """One of the free times; staff say for whom."""

    record_no = StringField(
        "Patient's record number or name",
        [Plain(), _at_most(100)],
        filters=[stripped],
        description="Such as P000012, or a part of the name.",
    )
    match = RadioField("Patient", validate_choice=False)
    time = RadioField("Time", [InputRequired("Choose a time.")], validate_choice=False)
    reason = text_area("Reason for the visit", most=500)

    def offer(self, times: list[str], *, own: bool = False) -> None:
        """Say which times there are; a patient books for themselves."""
        self.time.choices = offered([(each, each) for each in times])
        self.match.choices = []
        self.own = own

    def suggest(self, patients: list[tuple[str, str]]) -> None:
        """Say who has the name that was entered: record numbers and words."""
        self.match.choices = offered(patients)

    def validate_record_no(self, field: StringField) -> None:
        """Ask staff for a patient."""
        if not self.own and not field.data:
            raise ValidationError("Enter the patient's record number or name.")

    def validate_time(self, field: RadioField) -> None:
        """Refuse a time that is not offered, or no longer."""
        if field.data not in values(field):
            raise ValidationError("This time is not free. Choose another one.")


class RolesForm(Form):
    """The roles of a user."""

    roles = SelectMultipleField("Roles", validate_choice=False)


class AppointmentFilter(Form):
    """Which appointments to list."""

    class Meta:
        csrf = False  # it changes nothing, and its address can be kept

    period = SelectField(
        "Period",
        choices={"upcoming": "Upcoming", "past": "Past", "all": "All"},
        default="upcoming",
    )
    status = SelectField(
        "Status",
        choices={
            "": "Any",
            "booked": "Booked",
            "arrived": "Arrived",
            "completed": "Completed",
            "cancelled": "Cancelled",
            "no_show": "No show",
        },
        default="",
    )
    name = text_field("Patient's name", most=100)


class UserFilter(Form):
    """Which users to list."""

    class Meta:
        csrf = False

    name = text_field("Name or user name", most=100)
    state = SelectField(
        "State",
        choices={"": "Any", "active": "Active", "disabled": "Disabled"},
        default="",
    )

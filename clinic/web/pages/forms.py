"""What people enter."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

from wtforms import (
    BooleanField,
    HiddenField,
    PasswordField,
    RadioField,
    SelectField,
    SelectMultipleField,
    StringField,
)
from wtforms.validators import EqualTo, InputRequired, Regexp, ValidationError

from clinic.web.pages.fields import (
    Between,
    Day,
    Form,
    Plain,
    at_most,
    lowered,
    offered,
    password_field,
    stripped,
    text_area,
    text_field,
    values,
)

EARLIEST_BIRTH = date(1900, 1, 1)
AHEAD = timedelta(days=180)  # of a booking
_EMAIL = r"[^@\s]{1,100}@[^@\s]{1,150}"
_OF_USERNAME = (
    "Use 3 to 100 of the letters a to z, digits and . _ @ + -, beginning with a letter or a digit."
)
_USERNAME = r"[a-z0-9][a-z0-9._@+-]{2,99}"


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
        [Plain(), at_most(100)],
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
        choices=offered({"upcoming": "Upcoming", "past": "Past", "all": "All"}.items()),
        default="upcoming",
    )
    status = SelectField(
        "Status",
        choices=offered(
            {
                "": "Any",
                "booked": "Booked",
                "arrived": "Arrived",
                "completed": "Completed",
                "cancelled": "Cancelled",
                "no_show": "No show",
            }.items()
        ),
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
        choices=offered({"": "Any", "active": "Active", "disabled": "Disabled"}.items()),
        default="",
    )

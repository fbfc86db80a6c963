"""The fields of forms: they refuse what no field of the clinic can hold."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

from flask_wtf import FlaskForm
from wtforms import DateField, Field, PasswordField, StringField, TextAreaField
from wtforms.validators import InputRequired, Length, Optional, StopValidation, ValidationError

from clinic.web.characters import BREAKS, plain, stray

if TYPE_CHECKING:
    from wtforms.fields.choices import SelectChoice
else:
    try:
        from wtforms.fields.choices import SelectChoice
    except ImportError:  # WTForms before 3.3, which is the last one for Python 3.10, takes pairs

        class SelectChoice(NamedTuple):
            value: str
            label: str


LONGEST_PASSWORD = 1024


class Plain:
    """Refuse control characters; line ends too, unless `lines`."""

    def __init__(self, *, lines: bool = False) -> None:
        self.allowed = BREAKS if lines else ""

    def __call__(self, form: FlaskForm, field: Field) -> None:
        if stray(field.data or "", allowed=self.allowed):
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


def offered(pairs: Iterable[tuple[str, str]]) -> list[SelectChoice]:
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
        label, [*_presence(needed), Plain(), at_most(most)], filters=[stripped], **options
    )


def text_area(label: str, *, most: int, **options: Any) -> TextAreaField:
    """Return a field for several lines, which may stay empty."""
    return TextAreaField(
        label, [Optional(), Plain(lines=True), at_most(most)], filters=[stripped], **options
    )


def password_field(label: str, *, needed: str, **options: Any) -> PasswordField:
    """Return a field for a password, which is taken as it is."""
    checks = [InputRequired(needed), at_most(LONGEST_PASSWORD)]
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


def at_most(most: int) -> Length:
    """Return what refuses longer texts."""
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

"""How a body or a query becomes a Struct, or a problem that names the field."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from flask import request
from werkzeug.exceptions import RequestEntityTooLarge

from clinic.web.api.bodies import Sent
from clinic.web.api.problems import Fault, Rejected, invalid, wrong
from clinic.web.characters import BREAKS, TURNS, stray

Received = TypeVar("Received", bound=Sent)

_PATH = re.compile(r" - at `\$\.?(.*)`\Z", re.DOTALL)
_NAMED = re.compile(r"Object (contains unknown|missing required) field `(.*)`\Z", re.DOTALL)
_TIME = "expected a time such as 2026-12-01T00:00:00Z"
# what msgspec says of a value, in words of HTTP and not of Python
_WORDS = {
    "Invalid RFC3339 encoded datetime": _TIME,
    "Expected `datetime` with a timezone component": _TIME,
    "Invalid RFC3339 encoded date": "expected a day such as 2026-12-01",
    "Invalid UUID": "expected a UUID such as 0b6ad1b6-6d1c-4b6e-9d0c-2f6f0a1f7c11",
}
_MOST_NAMED = 20  # unknown fields


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
        faults = _faults(_document(data), kind, strict=True)
        raise invalid(*(faults or [_fault(str(exc), "body", kind)])) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise _no_json(exc) from None
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
        faults = _faults(given, kind, strict=False)
        raise invalid(*(faults or [_fault(str(exc), "query", kind)])) from None


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


def _no_json(exc: Exception) -> Rejected:
    return Rejected(400, f"the body is no JSON: {_sentence(str(exc))}")


def _document(data: bytes) -> Any:
    """Return a body as plain values, None where it has parts that nothing can be said of."""
    try:
        return msgspec.json.decode(data)
    except UnicodeDecodeError as exc:  # msgspec before 0.23 comes to this after an unknown field
        raise _no_json(exc) from None
    except (msgspec.DecodeError, RecursionError):
        return None


def _faults(document: Any, kind: type[Sent], *, strict: bool) -> list[Fault]:
    """Return the faults of all fields: the decoder ends at the first one."""
    if not isinstance(document, dict):
        return []
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    missing = [name for name, field in fields.items() if field.required and name not in document]
    unknown = [_shown(name) for name in document if name not in fields]
    wrong_values = [
        _fault(message, name, kind)
        for name, field in fields.items()
        if name in document
        and (message := _misfit(document[name], name, field.type, strict=strict))
    ]
    return [
        *(Fault(name, "is missing") for name in missing),
        *(Fault(name, "is unknown") for name in unknown[:_MOST_NAMED]),
        *wrong_values,
    ]


def _misfit(value: Any, name: str, kind: Any, *, strict: bool) -> str:
    """Return what msgspec says of the value of a field, as of its document, empty if it fits."""
    try:
        msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as exc:
        text, _, inner = str(exc).partition(" - at `$")
        return f"{text} - at `$.{name}{inner.removesuffix('`')}`"
    return ""


def _fault(message: str, whole: str, kind: type[Sent]) -> Fault:
    """Return the field and the message of an error of msgspec; `whole` is the field of all."""
    path = _PATH.search(message)
    field, text = (path[1], message[: path.start()]) if path else ("", message)
    if named := _NAMED.match(text):
        field = ".".join(filter(None, (field, named[2])))
        text = "is unknown" if named[1] == "contains unknown" else "is missing"
    if text.startswith("Invalid enum value") and (choices := _choices(kind, field)):
        text = "; ".join(filter(None, (f"expected {choices}", kind.instead.get(field))))
    text = _WORDS.get(text, text)
    if text.endswith(r"matching regex '\\S'"):
        text = "expected a text that is not blank"
    return Fault(_shown(field) or whole, _sentence(text))


def _choices(kind: type[Sent], field: str) -> str:
    """Return the values that a field may have, as `a, b or c`; empty where they are not known."""
    values = [str(value) for value in _literals(get_type_hints(kind).get(field))]
    *others, last = values or [""]
    return f"{', '.join(others)} or {last}" if others else last


def _literals(hint: Any) -> Iterator[Any]:
    if get_origin(hint) is Literal:
        yield from get_args(hint)
    else:
        for part in get_args(hint):
            yield from _literals(part)


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
    found = stray(text, allowed=BREAKS if breaks else "")
    if not found:
        return ""
    if "\0" in found:
        return "has a NUL byte"
    if not TURNS.isdisjoint(found):
        return "has a character that turns the direction of the text"
    is_control = any(letter not in BREAKS for letter in found)
    return "has a control character" if is_control else "has a line break or a tab"

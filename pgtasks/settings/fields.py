"""Declare settings, with type, default and help text, and check their values.

A block of settings is a frozen dataclass whose fields are declared by `text`, `path`, `number`,
`span`, `time`, `share`, `flag`, `names` or `block`. Files are checked against it, and the merged
settings are an instance of it.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pgtasks import report
from pgtasks.errors import BadConfiguration
from pgtasks.report.text import SPAN, seconds

Block = TypeVar("Block")


@dataclass(frozen=True)
class Field:
    """One setting.

    `kind` is text, path (relative to the project), number (within `range`), span (of time: 7d),
    time (the same in seconds, within `range`), share (0 to 1), flag, list, or block. A block has
    the fields `inside`, or any keys if that is None. `record` is the type of a block, `short`
    converts a text to one. `listing` is a short form of many `choices`. Without a value, a text is
    empty and a number is None.
    """

    kind: str
    help: str
    default: Any = None
    choices: tuple[str, ...] = ()
    listing: str = ""
    range: tuple[int, int] = (0, 10**9)
    inside: Mapping[str, Field] | None = None
    record: type | None = None
    short: Callable[[str, str], dict[str, Any]] | None = None


def _declared(field: Field, **default: Any) -> Any:
    return dataclasses.field(metadata={"setting": field}, **default)


def text(help: str, *, default: str = "", choices: tuple[str, ...] = (), listing: str = "") -> Any:
    """Declare a setting of type str."""
    return _declared(Field("text", help, default, choices, listing), default=default)


def path(help: str) -> Any:
    """Declare a setting of type str that names a file or folder."""
    return _declared(Field("path", help, ""), default="")


def number(help: str, *, default: int | None = None, range: tuple[int, int] = Field.range) -> Any:
    """Declare a setting of type int, or `int | None` if it has no default."""
    return _declared(Field("number", help, default, range=range), default=default)


def span(help: str, *, default: str = "") -> Any:
    """Declare a setting of type str that `report.span` reads."""
    return _declared(Field("span", help, default), default=default)


def time(help: str, *, default: int, range: tuple[int, int] = Field.range) -> Any:
    """Declare a setting of type int: seconds, which may be written as 30min."""
    return _declared(Field("time", help, default, range=range), default=default)


def flag(help: str, *, default: bool = False) -> Any:
    """Declare a setting of type bool."""
    return _declared(Field("flag", help, default), default=default)


def names(help: str) -> Any:
    """Declare a setting of type tuple[str, ...]."""
    return _declared(Field("list", help, ()), default=())


def share(help: str, *, default: float) -> Any:
    """Declare a setting of type float from 0 to 1, which may also be written as 50%."""
    return _declared(Field("share", help, default), default=default)


def block(
    help: str,
    record: type | None = None,
    *,
    short: Callable[[str, str], dict[str, Any]] | None = None,
    optional: bool = False,
) -> Any:
    """Declare a block: of the type `record` (None where `optional`), or a mapping of anything."""
    inside = of(record) if record else None
    field = Field("block", help, inside=inside, record=record, short=short)
    if optional:
        return _declared(field, default=None)
    return _declared(field, default_factory=record or dict)


def of(record: type) -> Mapping[str, Field]:
    """Return the fields of a record by name."""
    declared = dataclasses.fields(record)
    return {field.name: field.metadata["setting"] for field in declared}


def dotted(record: type) -> dict[str, Field]:
    """Return the fields with a value, those in blocks by dotted names (`backup.keep.last`)."""
    return _dotted(of(record))


def _dotted(inside: Mapping[str, Field], above: str = "") -> dict[str, Field]:
    fields: dict[str, Field] = {}
    for key, field in inside.items():
        fields.update(_dotted(field.inside or {}, f"{above}{key}."))
        if field.kind != "block" or field.short:
            fields[f"{above}{key}"] = field
    return fields


def inner(values: Mapping[str, Any], block: str) -> dict[str, Any]:
    """Return the values of one block, from values by dotted name."""
    start = f"{block}."
    return {key[len(start) :]: value for key, value in values.items() if key.startswith(start)}


def build(record: type[Block], values: Mapping[str, Any]) -> Block:
    """Build a record from typed values; those of its blocks have dotted names."""
    own: dict[str, Any] = {}
    for name, field in of(record).items():
        if field.record and (inside := inner(values, name)):
            own[name] = build(field.record, inside)
        elif name in values:
            own[name] = values[name]
    return record(**own)


_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `did you mean 'x'` for the nearest known word, else all known words."""
    words = sorted(known)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}" if close else f"known: {', '.join(words)}"


def meant(word: str, known: Iterable[str], listing: str = "") -> str:
    """Return `did you mean 'x'`, if there is a near word, and all known words, or `listing`."""
    words = list(known)
    listed = f"known: {listing or ', '.join(words)}"
    near = nearest(word, words)
    if not near.startswith("did you mean"):
        return listed
    return near if len(words) == 1 else f"{near}, {listed}"


def check(field: Field, value: Any, where: str) -> Any:
    """Return `value` in the type of `field`; `where` (file, line, key) begins the error."""
    if value is None:
        return field.default
    result = _CONVERT[field.kind](value, where)
    if field.choices and result not in field.choices:
        raise BadConfiguration(
            f"{where}: {value!r}, {meant(str(value), field.choices, field.listing)}"
        )
    least, most = field.range
    if field.kind in ("number", "time") and not least <= result <= most:
        raise BadConfiguration(f"{where}: {result}, expected {least} to {most}")
    return result


def _text(value: Any, where: str) -> str:
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        text = str(value)
        if "\0" in text or not text.strip():
            raise BadConfiguration(f"{where}: {text!r}, expected text")
        return text
    raise BadConfiguration(f"{where}: {_shown(value)}, expected text")


def _number(value: Any, where: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value.strip()):
        return int(value)
    raise BadConfiguration(f"{where}: {_shown(value)}, expected a number")


def _span(value: Any, where: str) -> str:
    if isinstance(value, str) and report.span(value):
        return value.strip()
    raise BadConfiguration(f"{where}: {_shown(value)}, expected {SPAN}")


def _time(value: Any, where: str) -> int:
    text = str(value).strip()
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        if re.fullmatch("[0-9]{1,9}", text):
            return int(text)
        if (found := seconds(text)) is not None:
            return found
    raise BadConfiguration(
        f"{where}: {_shown(value)}, expected a time: 30min, 12h, 14d, or a number of seconds"
    )


def _share(value: Any, where: str) -> float:
    text = str(value).strip()
    if not isinstance(value, bool) and re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,6})?%?", text):
        share = float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
        if share <= 1:
            return share
    raise BadConfiguration(f"{where}: {_shown(value)}, expected a share: 0.5, or 50%")


def _flag(value: Any, where: str) -> bool:
    word = str(value).strip().lower()
    if isinstance(value, (bool, str, int)) and word in _TRUE + _FALSE:
        return word in _TRUE
    raise BadConfiguration(f"{where}: {_shown(value)}, expected true or false")


def _list(value: Any, where: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(part for part in re.split(r"[,\s]+", value) if part)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise BadConfiguration(f"{where}: {_shown(value)}, expected a list of names")


def _shown(value: Any) -> str:
    kinds = {dict: "a block of keys", list: "a list"}
    return next((text for kind, text in kinds.items() if isinstance(value, kind)), repr(value))


_CONVERT: Mapping[str, Callable[[Any, str], Any]] = {
    "text": _text,
    "path": _text,
    "number": _number,
    "span": _span,
    "time": _time,
    "flag": _flag,
    "list": _list,
    "share": _share,
}


def like(model: Any, text: str, where: str) -> Any:
    """Convert the text of a variable to the type of `model`, the value that it overrides."""
    if isinstance(model, bool):
        return _flag(text, where)
    if isinstance(model, (list, tuple)):
        return list(_list(text, where))
    if isinstance(model, (int, float)):
        try:
            return type(model)(text)
        except ValueError:
            raise BadConfiguration(f"{where}: {text!r}, expected a number like {model}") from None
    return text


def checked(
    fields: Mapping[str, Field], values: Mapping[str, Any], file: str, *, block: str = ""
) -> dict[str, Any]:
    """Return the typed values, raising BadConfiguration for an unknown key or a wrong type.

    `file` is the name of their file, `block` are the keys above them (`pgtasks.folders`). A key
    without a value is omitted.
    """
    result: dict[str, Any] = {}
    for key, value in values.items():
        place = located(values, key, file)
        full = f"{block}.{key}" if block else key
        if block.endswith("ssh") and key in ("password", "passphrase"):
            raise BadConfiguration(
                f"{place}: {full}: the login needs keys, their passphrases come from the agent "
                "(ssh-add) or a prompt"
            )
        if key == "password":
            raise BadConfiguration(
                f"{place}: {full}: a password does not belong in this file, use password_command, "
                "~/.pgpass, or DATABASE_PASSWORD in the environment's dotenv file"
            )
        if block.endswith("security") and key in ("key", "keys"):
            raise BadConfiguration(
                f"{place}: {full}: a key does not belong in this file, use SECURITY_KEYS in the "
                "environment's dotenv file, or security.keys_command"
            )
        if key not in fields:
            blocks = [repr(name) for name, each in fields.items() if key in (each.inside or ())]
            way = f"it belongs in {' or '.join(blocks)}" if blocks else nearest(key, fields)
            raise BadConfiguration(f"{place}: unknown key {full!r}, {way}")
        if value is not None:
            result[key] = _checked_one(fields[key], value, file, place, full)
    return result


def _checked_one(field: Field, value: Any, file: str, place: str, full: str) -> Any:
    if field.kind != "block":
        return check(field, value, f"{place}: {full}")
    if field.short and (isinstance(value, str) or type(value) is int):
        short = field.short(str(value), f"{place}: {full}")
        return checked(field.inside or {}, short, file, block=full)
    if not isinstance(value, dict):
        raise BadConfiguration(f"{place}: {full}: {_shown(value)}, expected a block of keys")
    if field.inside is None:
        return value
    return checked(field.inside, value, file, block=full)


def located(values: Mapping[str, Any], key: str, file: str) -> str:
    """Return `file:line` of a key, or `file` if the line is unknown."""
    line = getattr(values, "lines", {}).get(key)
    return f"{file}:{line}" if line else file

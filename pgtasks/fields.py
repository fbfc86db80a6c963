"""The settings there are: names, types, defaults, and the one line for a wrong one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pgtasks.errors import BadConfiguration
from pgtasks.libpq import SSLMODES


@dataclass(frozen=True)
class Field:
    """One setting: `kind` is text, number, flag, list or block (with the fields of `inside`)."""

    name: str
    kind: str
    help: str
    default: Any = None
    choices: tuple[str, ...] = ()
    inside: Mapping[str, Field] | None = None


def _fields(*fields: Field) -> dict[str, Field]:
    return {field.name: field for field in fields}


BACKUP = _fields(
    Field("compression", "text", "gzip:1, zstd:1, lz4 or none; default gzip:1"),
    Field("keep", "number", "how many backups a policy keeps at least"),
    Field("globals_passwords", "flag", "save password hashes of roles too", default=False),
)

ENVIRONMENT = _fields(
    Field("url", "text", "postgresql://user@host:port/database, or $VARIABLE that holds it"),
    Field("service", "text", "a section of the libpq service file"),
    Field("host", "text", "name, address or folder of the socket"),
    Field("port", "number", "port of the server", default=5432),
    Field("database", "text", "name of the database"),
    Field("user", "text", "role to connect as"),
    Field("sslmode", "text", "libpq's sslmode", choices=SSLMODES),
    Field("sslrootcert", "text", "file of the certificate authority"),
    Field("connect_timeout", "number", "seconds until a silent server counts as away", default=10),
    Field("server", "text", "`embedded`: pgtasks runs the server itself", choices=("embedded",)),
    Field("major", "number", "major version of the embedded server"),
    Field("inherits", "text", "the environment whose settings fill the gaps"),
    Field("protected", "flag", "writes need the database's name", default=False),
    Field("password_command", "text", "a program that prints the password"),
    Field("passfile", "text", "file in the form of ~/.pgpass"),
    Field("ssh", "text", "user@host of the database host"),
    Field("jobs", "number", "processes that dump and restore at once", default=2),
    Field("seeds", "list", "seed sets that belong into this environment"),
    Field("maintenance", "text", "database that locks and swaps work from", default="postgres"),
    Field("template", "text", "template of new databases", default="template0"),
    Field("tools", "text", "folder of pg_dump, pg_restore and psql"),
    Field("backup", "block", "how backups are made", inside=BACKUP),
)

FOLDERS = _fields(
    *(
        Field(name, "text", f"folder of {name}, below the project", default=name)
        for name in ("tasks", "sql", "migrations", "env", "backups")
    )
)

PROJECT = _fields(
    Field("environment", "text", "the environment where nothing else chooses one"),
    Field("folders", "block", "names of the project's folders", inside=FOLDERS),
    Field("environments", "block", "environments, by name"),
)

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `, did you mean 'x'` for the known word nearest to `word`, else the known ones."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}" if close else f"known: {', '.join(names)}"


def check(field: Field, value: Any, where: str) -> Any:
    """Return `value` in the type of `field`; `where` opens the error: a file, key and line."""
    if value is None:
        return field.default
    result: Any = _CONVERT[field.kind](value, where)
    if field.choices and result not in field.choices:
        raise BadConfiguration(f"{where}: {value!r}, expected one of {', '.join(field.choices)}")
    if field.name == "port" and not 0 < result < 65536:
        raise BadConfiguration(f"{where}: {result}, expected 1 to 65535")
    if field.name in ("jobs", "connect_timeout") and not 0 < result <= 1000:
        raise BadConfiguration(f"{where}: {result}, expected 1 to 1000")
    return result


def _text(value: Any, where: str) -> str:
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return str(value)
    raise BadConfiguration(f"{where}: {_shown(value)}, expected text")


def _number(value: Any, where: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value.strip()):
        return int(value)
    raise BadConfiguration(f"{where}: {_shown(value)}, expected a number")


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
    return f"a {type(value).__name__}" if isinstance(value, (dict, list)) else repr(value)


_CONVERT: Mapping[str, Callable[[Any, str], Any]] = {
    "text": _text,
    "number": _number,
    "flag": _flag,
    "list": _list,
}


def checked(
    fields: Mapping[str, Field], values: Mapping[str, Any], where: str, lines: Mapping[str, int]
) -> dict[str, Any]:
    """Return `values` typed, raising BadConfiguration for an unknown key or a wrong type.

    `where` names the file and the block (`env/dev.yaml`), `lines` gives the line of a key.
    """
    result: dict[str, Any] = {}
    for key, value in values.items():
        place = f"{where}:{lines[key]}" if key in lines else where
        if key == "password":
            raise BadConfiguration(
                f"{place}: a password does not belong in this file, use password_command, "
                "a dotenv file or ~/.pgpass"
            )
        if key not in fields:
            raise BadConfiguration(f"{place}: unknown key {key!r}, {nearest(key, fields)}")
        result[key] = _checked_one(fields[key], value, f"{place}: {key}")
    return result


def _checked_one(field: Field, value: Any, where: str) -> Any:
    if field.kind != "block":
        return check(field, value, where)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadConfiguration(f"{where}: {_shown(value)}, expected a block of keys")
    if field.inside is None:
        return value
    return checked(field.inside, value, where, getattr(value, "lines", {}))

"""The settings there are: names, types, defaults, and the one line for a wrong one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pgtasks.errors import BadConfiguration
from pgtasks.settings import ssh
from pgtasks.settings.libpq import SSLMODES

EMBEDDED_ROLE = "pgtasks"  # as whom an embedded server is used where no `user` is named


@dataclass(frozen=True)
class Field:
    """One setting.

    `kind` is text, path (relative to the project), number (within `range`), flag, list, or block:
    of the fields of `inside`, of anything where that is None. `short` makes a block of a text.
    """

    name: str
    kind: str
    help: str
    default: Any = None
    choices: tuple[str, ...] = ()
    range: tuple[int, int] = (0, 10**9)
    inside: Mapping[str, Field] | None = None
    short: Callable[[str, str], dict[str, Any]] | None = None


def _fields(*fields: Field) -> dict[str, Field]:
    return {field.name: field for field in fields}


BACKUP = _fields(
    Field(
        "compression",
        "text",
        "auto, gzip:1, zstd:1, lz4:1 or none; auto takes zstd where the tools can",
    ),
    Field("keep", "number", "how many backups a policy keeps at least"),
    Field("globals_passwords", "flag", "save password hashes of roles too", default=False),
)

_SECONDS = (1, 3600)

SSH = _fields(
    Field("host", "text", "name or address of the database host, or its alias in ~/.ssh/config"),
    Field("user", "text", "account there"),
    Field("port", "number", "port of its sshd", range=(1, 65535)),
    Field("identity", "path", "file of the private key"),
    Field("jump", "text", "user@host to go through, several separated by commas; `none` for none"),
    Field("known_hosts", "path", "file of the host keys that are trusted"),
    Field("connect_timeout", "number", "seconds until its port answers", 10, range=_SECONDS),
    Field("banner_timeout", "number", "seconds until its sshd says its name", 15, range=_SECONDS),
    Field("auth_timeout", "number", "seconds until it lets us in", 30, range=_SECONDS),
    Field("channel_timeout", "number", "seconds until a command starts", 30, range=_SECONDS),
    Field("silence", "number", "seconds without an answer: the line is cut", 20, range=(5, 3600)),
    Field("bin", "text", "folder of pg_dump, pg_restore and psql there"),
    Field("backups", "text", "folder for backups there"),
    Field("sudo_user", "text", "account that the commands run as there, through sudo"),
)

ENVIRONMENT = _fields(
    Field("url", "text", "postgresql://user@host:port/database, or $VARIABLE that holds it"),
    Field("service", "text", "a section of the libpq service file"),
    Field("host", "text", "name, address or folder of the socket"),
    Field("port", "number", "port of the server", default=5432, range=(1, 65535)),
    Field("database", "text", "name of the database"),
    Field("user", "text", "role to connect as"),
    Field("sslmode", "text", "libpq's sslmode", choices=SSLMODES),
    Field("sslrootcert", "path", "file of the certificate authority, or `system`"),
    Field("requirepeer", "text", "the account that runs the server of a socket, as for libpq"),
    Field(
        "connect_timeout",
        "number",
        "seconds until a silent server counts as away",
        default=10,
        range=(1, 1000),
    ),
    Field("server", "text", "`embedded`: pgtasks runs the server itself", choices=("embedded",)),
    Field("major", "number", "major version of the embedded server", range=(1, 99)),
    Field("inherits", "text", "the environment whose settings fill the gaps"),
    Field("protected", "flag", "writes need the database's name", default=False),
    Field("reader", "text", "role that cannot write: tasks that read a protected database use it"),
    Field("password_command", "text", "a program that prints the password"),
    Field(
        "password_command_timeout",
        "number",
        "seconds until a password_command that prints nothing is ended",
        default=30,
        range=(1, 3600),
    ),
    Field("passfile", "path", "file in the form of ~/.pgpass"),
    Field(
        "ssh",
        "block",
        "the database host over SSH: user@host:port, or a block; `none` for none",
        inside=SSH,
        short=ssh.parse,
    ),
    Field(
        "jobs",
        "number",
        "processes that dump and restore at once",
        default=2,
        range=(1, 1000),
    ),
    Field("seeds", "list", "seed sets that belong into this environment"),
    Field("maintenance", "text", "database that locks and swaps work from", default="postgres"),
    Field("template", "text", "template of new databases", default="template0"),
    Field(
        "keep_old",
        "number",
        "how many replaced databases stay for db.undo, older ones are dropped; without it all",
        range=(1, 1000),
    ),
    Field("tools", "path", "folder of pg_dump, pg_restore and psql"),
    Field("backup", "block", "how backups are made", inside=BACKUP),
    Field("settings", "block", "the application's own settings, handed through to it"),
)


def dotted(fields: Mapping[str, Field]) -> dict[str, Field]:
    """Return the fields that hold a value, those of blocks by dotted names (`backup.keep`)."""
    found: dict[str, Field] = {}
    for key, field in fields.items():
        found.update({f"{key}.{inner}": own for inner, own in (field.inside or {}).items()})
        if field.kind != "block" or field.short:
            found[key] = field
    return found


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
    """Return `did you mean 'x'` for the known word nearest to `word`, else the known ones."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}" if close else f"known: {', '.join(names)}"


def check(field: Field, value: Any, where: str) -> Any:
    """Return `value` in the type of `field`; `where` opens the error: a file, line and key."""
    if value is None:
        return field.default
    result = _CONVERT[field.kind](value, where)
    if field.choices and result not in field.choices:
        raise BadConfiguration(f"{where}: {value!r}, expected one of {', '.join(field.choices)}")
    least, most = field.range
    if field.kind == "number" and not least <= result <= most:
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
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value.strip(), re.ASCII):
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
    kinds = {dict: "a block of keys", list: "a list"}
    return next((text for kind, text in kinds.items() if isinstance(value, kind)), repr(value))


_CONVERT: Mapping[str, Callable[[Any, str], Any]] = {
    "text": _text,
    "path": _text,
    "number": _number,
    "flag": _flag,
    "list": _list,
}


def like(model: Any, text: str, where: str) -> Any:
    """Return the text of a variable in the type of `model`, the value that it overrides."""
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
    """Return `values` typed, raising BadConfiguration for an unknown key or a wrong type.

    `file` names where they stand, `block` the keys above them (`pgtasks.folders`). A key without
    a value says nothing and is left out.
    """
    result: dict[str, Any] = {}
    for key, value in values.items():
        place = located(values, key, file)
        full = f"{block}.{key}" if block else key
        if block.endswith("ssh") and key in ("password", "passphrase"):
            raise BadConfiguration(
                f"{place}: {full}: a host lets in keys alone, their passphrases are the agent's "
                "(ssh-add) or asked for"
            )
        if key == "password":
            raise BadConfiguration(
                f"{place}: {full}: a password does not belong in this file, use password_command, "
                "~/.pgpass, or DATABASE_PASSWORD in the environment's dotenv file"
            )
        if key not in fields:
            raise BadConfiguration(f"{place}: unknown key {full!r}, {nearest(key, fields)}")
        if value is not None:
            result[key] = _checked_one(fields[key], value, file, place, full)
    return result


def _checked_one(field: Field, value: Any, file: str, place: str, full: str) -> Any:
    if field.kind != "block":
        return check(field, value, f"{place}: {full}")
    if field.short and isinstance(value, str):
        return checked(field.inside or {}, field.short(value, f"{place}: {full}"), file, block=full)
    if not isinstance(value, dict):
        raise BadConfiguration(f"{place}: {full}: {_shown(value)}, expected a block of keys")
    if field.inside is None:
        return value
    return checked(field.inside, value, file, block=full)


def located(values: Mapping[str, Any], key: str, file: str) -> str:
    """Return `file:line` of a key, or `file` where the line is not known."""
    line = getattr(values, "lines", {}).get(key)
    return f"{file}:{line}" if line else file

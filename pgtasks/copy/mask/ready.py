"""The ready-made masks, as SQL that every supported server has without extensions.

Each is a function of the key and of the value alone, so that a value has the same mask in every
table. None returns the value itself, if there is another choice. A null stays null. Those that
are `wide` keep distinct values distinct: 64 bits of the digest or more, so that among ten million
values the chance of two that become equal is below one in 300,000.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pgtasks.copy.mask import key, words
from pgtasks.copy.mask.columns import Column
from pgtasks.errors import BadConfiguration
from pgtasks.server.quoting import identifier

_ALIAS = '"pgtasks mask"'  # in the masks' own queries, so that no name of a table is hidden
_TEXT = ("text", "varchar", "bpchar", "citext", "name")
_INTEGERS = ("int2", "int4", "int8")
_NUMBERS = (*_INTEGERS, "numeric", "float4", "float8", "money")
_DATES = ("date", "timestamp", "timestamptz")
_DOMAIN = "@example.com"  # reserved: no mail to it is delivered
_WIDE = 16  # hexadecimal digits
_LETTERS = "etaoinsrhldcumfp"


class Unfit(Exception):
    """Report why a mask does not fit a column."""


@dataclass(frozen=True)
class Value:
    """A value to mask: its SQL, and the column that it is in, of whose type it is."""

    sql: str
    column: Column
    encoding: str

    @property
    def type(self) -> str:
        """Return the type of the value: the element's, in an array."""
        return self.column.element or self.column.base

    @property
    def text(self) -> str:
        """Return the SQL of the value's text; equal values have equal texts."""
        if self.type == "citext":
            return f"lower({self.sql}::text)"
        if self.type == "numeric":
            return f"trim_scale({self.sql})::text"
        return f"{self.sql}::text"

    def digest(self, kind: str) -> str:
        """Return the SQL of the digest of the value; one for each kind of mask."""
        return key.digest(f"'{kind}:' || {self.text}", self.encoding)


def _hex(digest: str) -> str:
    return f"encode({digest}, 'hex')"


def _number(hexadecimal: str, place: int = 1) -> str:
    """Return the SQL of a bigint of 60 bits from hexadecimal digits."""
    return f"('x' || substr({hexadecimal}, {place}, 15))::bit(60)::bigint"


def _from(expressions: Mapping[str, str], result: str) -> str:
    """Return a query of one row, with names for the parts of an expression."""
    parts = ", ".join(f"{sql} AS {name}" for name, sql in expressions.items())
    return f"(SELECT {result} FROM (SELECT {parts} OFFSET 0) AS {_ALIAS})"


def _picked(value: Value, kind: str, choices: Sequence[str]) -> str:
    """Return the SQL of one of 64 words, another one than the value."""
    place = f"(get_byte({value.digest(kind)}, 0) & 63)"
    array = "'{" + ",".join(choices) + "}'::text[]"
    return _from(
        {"w": array, "i": place, "v": value.text},
        "CASE WHEN w[i + 1] <> v THEN w[i + 1] ELSE w[(i + 1) % 64 + 1] END",
    )


def _first_name(value: Value) -> str:
    return _picked(value, "first_name", words.FIRST)


def _last_name(value: Value) -> str:
    return _picked(value, "last_name", words.LAST)


def _name(value: Value) -> str:
    return f"{_first_name(value)} || ' ' || {_last_name(value)}"


def _email(value: Value) -> str:
    room = 17 if value.column.most is None else value.column.most - len(_DOMAIN)
    if room < 9:
        raise Unfit(f"it has room for {value.column.most} characters, an address needs 21")
    return f"'u' || left({_hex(value.digest('email'))}, {min(room, 17) - 1}) || '{_DOMAIN}'"


def _phone(value: Value) -> str:
    """Return as many digits as before, after the + if there is one."""
    digits = f"lpad(({_number('h')} % 1000000000000000000)::text, 18, '0')"
    more = f"lpad(({_number('h', 16)} % 1000000000000000000)::text, 18, '0')"
    number = "CASE WHEN n = 0 THEN 7 ELSE n END"
    chosen = _from(
        {
            "h": _hex(value.digest("phone")),
            "n": f"least(length(regexp_replace({value.text}, '[^0-9]', '', 'g')), 36)",
        },
        f"left({digits} || {more}, {number})",
    )
    plus = f"CASE WHEN {value.text} LIKE '+%' THEN '+' ELSE '' END"
    return _other(f"{plus} || {chosen}", value, "translate({0}, '0123456789', '1234567890')")


def _other(sql: str, value: Value, otherwise: str) -> str:
    """Return the SQL of a result that is changed once more if it is the value itself."""
    changed = otherwise.format("r")
    return _from({"r": sql, "v": value.text}, f"CASE WHEN r <> v THEN r ELSE {changed} END")


def _text(value: Value) -> str:
    """Return letters, as many as before, with blanks if they are many."""
    letters = f"translate({_hex(value.digest('text'))}, '0123456789abcdef', '{_LETTERS}')"
    short = "left(t, n)"
    long = "left(repeat(translate(t, 'pf', '  '), n / 64 + 1), n - 1) || 'e'"
    sql = _from(
        {"t": letters, "n": f"length({value.sql}::text)"},
        f"CASE WHEN n < 16 THEN {short} ELSE 'E' || right({long}, -1) END",
    )
    return _other(sql, value, f"translate({{0}}, '{_LETTERS}', '{_LETTERS[1:]}{_LETTERS[0]}')")


def _hash(value: Value) -> str:
    digest = value.digest("hash")
    number = _number(_hex(digest))
    kinds: dict[str, str] = {
        "int8": number,
        "int4": f"(({number}) & 2147483647)::int",
        "int2": f"(({number}) & 32767)::int2",
        "uuid": f"encode(substring({digest}, 1, 16), 'hex')::uuid",
        "bytea": digest,
    }
    if value.type in _TEXT:
        return f"left({_hex(digest)}, {_hash_length(value.column)})"
    if value.type == "numeric":
        whole = _whole_digits(value.column)
        return f"({number}) % 10::numeric ^ {whole}"
    return kinds[value.type]


def _hash_length(column: Column) -> int:
    return min(64, 32 if column.most is None else column.most)


def _whole_digits(column: Column) -> int:
    return ((column.modifier - 4) >> 16) - column.scale if column.modifier > 4 else 18


def _uuid(value: Value) -> str:
    if value.column.most is not None and value.column.most < 36:
        raise Unfit(f"it has room for {value.column.most} characters, a UUID needs 36")
    sql = f"encode(substring({value.digest('uuid')}, 1, 16), 'hex')::uuid"
    return sql if value.type == "uuid" else f"({sql})::text"


def _ip(value: Value) -> str:
    """Return an address in 10.0.0.0/8."""
    return _from(
        {"d": value.digest("ip")},
        "('10.' || get_byte(d, 0) || '.' || get_byte(d, 1) || '.' || get_byte(d, 2))::inet",
    )


def _null(value: Value) -> str:
    if value.column.required:
        raise Unfit("it is NOT NULL")
    return "NULL"


@dataclass(frozen=True)
class Ready:
    """A ready-made mask: its SQL for a value, and the types that it is for.

    `wide` says whether distinct values stay distinct, for a column. `keyed` ones need a key.
    """

    sql: Callable[[Value], str]
    types: tuple[str, ...] = _TEXT
    wide: Callable[[Column], bool] = lambda column: False
    keyed: bool = True

    def masked(self, column: Column, encoding: str) -> str:
        """Return the SQL of a column's mask, raising Unfit."""
        own = f"{identifier(column.table)}.{identifier(column.name)}"
        kind = column.element or column.base
        if self.types and kind not in self.types:
            raise Unfit(f"it is of type {column.cast}, the mask is for {', '.join(self.types)}")
        if self.sql is _null:
            return self.sql(Value(own, column, encoding))
        if column.element:
            each = self.sql(Value('"pgtasks item".v', column, encoding))
            return (
                f"CASE WHEN {own} IS NOT NULL THEN ARRAY(SELECT CASE WHEN v IS NOT NULL"
                f' THEN {each} END FROM unnest({own}) WITH ORDINALITY AS "pgtasks item"(v, n)'
                " ORDER BY n) END"
            )
        return f"CASE WHEN {own} IS NOT NULL THEN {self.sql(Value(own, column, encoding))} END"


def _hash_is_wide(column: Column) -> bool:
    kind = column.element or column.base
    if kind in _TEXT:
        return _hash_length(column) >= _WIDE
    if kind == "numeric":
        return _whole_digits(column) >= 18
    return kind in ("int8", "uuid", "bytea")


def _email_is_wide(column: Column) -> bool:
    return column.most is None or column.most >= len(_DOMAIN) + 1 + _WIDE


SIMPLE: Mapping[str, Ready] = {
    "name": Ready(_name),
    "first_name": Ready(_first_name),
    "last_name": Ready(_last_name),
    "email": Ready(_email, wide=_email_is_wide),
    "phone": Ready(_phone),
    "text": Ready(_text),
    "hash": Ready(_hash, (*_TEXT, *_INTEGERS, "numeric", "uuid", "bytea"), wide=_hash_is_wide),
    "uuid": Ready(_uuid, (*_TEXT, "uuid"), wide=lambda column: True),
    "ip": Ready(_ip, ("inet",)),
    "null": Ready(_null, (), wide=lambda column: True, keyed=False),
}
_HASH = re.compile(r"hash ([1-9][0-9]?)")
_DATE = re.compile(r"date ([0-9]{1,5})(?: days?)?(?: by ([a-z_][a-z0-9_]*|\"[^\"]+\"))?")
_RANGE = re.compile(r"number (-?[0-9]{1,15}) to (-?[0-9]{1,15})")
_PERCENT = re.compile(r"number ([1-9][0-9]?)%")
_JSON = re.compile(r"json (\S+=.+)")


def find(text: str) -> Ready | None:
    """Return the ready-made mask of this name and numbers, None if it is an expression."""
    if text in SIMPLE:
        return SIMPLE[text]
    if match := _HASH.fullmatch(text):
        return _digits(int(match[1]))
    if match := _DATE.fullmatch(text):
        return _date(int(match[1]), match[2])
    if match := _RANGE.fullmatch(text):
        return _range(int(match[1]), int(match[2]))
    if match := _PERCENT.fullmatch(text):
        return _percent(int(match[1]))
    if match := _JSON.fullmatch(text):
        return _json(match[1].split())
    return None


def _digits(number: int) -> Ready:
    """Return the mask that gives as many hexadecimal digits."""
    if number > 64:
        raise BadConfiguration(f"hash {number}: a digest has 64 digits")

    def sql(value: Value) -> str:
        if value.column.most is not None and value.column.most < number:
            raise Unfit(f"it has room for {value.column.most} characters")
        return f"left({_hex(value.digest('hash'))}, {number})"

    return Ready(sql, wide=lambda column: number >= _WIDE)


def _date(days: int, by: str | None) -> Ready:
    """Return the mask that moves a date by up to some days, never by none."""
    if not days:
        raise BadConfiguration("date 0 days leaves a date as it is")

    def sql(value: Value) -> str:
        table = identifier(value.column.table)
        digest = value.digest("date")
        if by:
            column = by if by.startswith('"') else identifier(by)
            digest = key.digest(f"'date:' || coalesce({table}.{column}::text, '')", value.encoding)
        shift = _from(
            {"h": _hex(digest)},
            f"(1 + {_number('h')} % {days})::int"
            " * (CASE WHEN substr(h, 64) < '8' THEN 1 ELSE -1 END)",
        )
        if value.type == "date":
            return f"{value.sql} + {shift}"
        return f"{value.sql} + make_interval(days => {shift})"

    return Ready(sql, _DATES)


def _range(least: int, most: int) -> Ready:
    """Return the mask that gives another number of a range."""
    if least >= most:
        raise BadConfiguration(f"number {least} to {most}: the second number must be larger")

    def sql(value: Value) -> str:
        scale = {"numeric": value.column.scale, "money": 2}.get(value.type, 0)
        if value.type.startswith("float"):
            scale = 2
        unit = 10**scale
        number = (most - least) * unit + 1
        result = f"({least} * {unit}::numeric + (h + {{0}}) % {number}) / {unit}"
        first, second = result.format(0), result.format(1)
        kind = "numeric" if value.type in ("numeric", "money") else value.type
        return _from(
            {"h": _number(_hex(value.digest("number"))), "v": f"{value.sql}::numeric"},
            f"(CASE WHEN {first} <> v THEN {first} ELSE {second} END)::{kind}",
        )

    return Ready(sql, _NUMBERS)


def _percent(percent: int) -> Ready:
    """Return the mask that moves a number by up to some percent, but always a little."""

    def sql(value: Value) -> str:
        scale = value.column.scale if value.type in ("numeric", "money") else 0
        if value.type.startswith("float"):
            scale = 2
        kind = "numeric" if value.type in ("numeric", "money") else value.type
        part = f"(h % 2001 - 1000) / 1000.0 * {percent} / 100"
        moved = f"round(v + v * {part}, {scale})"
        unit = f"{10**-scale:.{scale}f}"
        return _from(
            {"h": _number(_hex(value.digest("number"))), "v": f"{value.sql}::numeric"},
            f"(CASE WHEN {moved} <> v THEN {moved} ELSE v + {unit} END)::{kind}",
        )

    return Ready(sql, _NUMBERS)


def _json(parts: Sequence[str]) -> Ready:
    """Return the mask of some paths in JSON; all that is not named is left out."""
    tree: dict[str, object] = {}
    for part in parts:
        path, _, mask = part.rpartition("=")
        if mask != "plain" and mask not in ("name", "first_name", "last_name", *_OF_JSON):
            raise BadConfiguration(
                f"json {part}: expected plain or one of {', '.join(('name', *_OF_JSON))}"
            )
        node = tree
        *above, last = path.split(".")
        for word in above:
            inner = node.setdefault(word, {})
            if not isinstance(inner, dict):
                raise BadConfiguration(f"json {part}: {word} has a mask of its own")
            node = inner
        if last in node:
            raise BadConfiguration(f"json {part}: it is named twice")
        node[last] = mask

    def sql(value: Value) -> str:
        text = replace(value.column, base="text", element="", cast="text", modifier=-1)
        built = _object(f"{value.sql}::jsonb", tree, replace(value, column=text))
        return built if value.type == "jsonb" else f"({built})::{value.type}"

    return Ready(sql, ("json", "jsonb"))


_OF_JSON = ("first_name", "last_name", "email", "phone", "text", "hash", "uuid")


def _object(value: str, tree: Mapping[str, object], context: Value) -> str:
    """Return the SQL of an object with the members of a tree that the value has."""
    members = []
    for name, inner in tree.items():
        key_text = "'" + name.replace("'", "''") + "'"
        own = f"({value} -> {key_text})"
        if isinstance(inner, dict):
            built = _object(own, inner, context)
        elif inner == "plain":
            built = own
        else:
            leaf = replace(context, sql=f"({value} ->> {key_text})")
            mask = SIMPLE[str(inner)].sql(leaf)
            built = f"CASE WHEN {own} <> 'null' THEN to_jsonb({mask}) ELSE {own} END"
        members.append(
            f"CASE WHEN {value} ? {key_text} THEN jsonb_build_object({key_text}, {built})"
            " ELSE '{}' END"
        )
    joined = " || ".join(members)
    return f"CASE WHEN jsonb_typeof({value}) = 'object' THEN {joined} ELSE 'null'::jsonb END"

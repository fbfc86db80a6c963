"""The SQL of masks for one value, of what every supported server has without extensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pgtasks.copy.mask import key, words
from pgtasks.copy.mask.columns import Column

_ALIAS = '"pgtasks mask"'  # in the masks' own queries, so that no name of a table is hidden
TEXT = ("text", "varchar", "bpchar", "citext", "name")
INTEGERS = ("int2", "int4", "int8")
NUMBERS = (*INTEGERS, "numeric", "float4", "float8", "money")
DATES = ("date", "timestamp", "timestamptz")
DOMAIN = "@example.com"  # reserved: no mail to it is delivered
WIDE = 16  # hexadecimal digits
_LETTERS = "etaoinsrhldcumfp"
_WORDS = "etaoinsrhldcum  "


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


def hexadecimal(digest: str) -> str:
    return f"encode({digest}, 'hex')"


def number(hexadecimal: str, place: int = 1) -> str:
    """Return the SQL of a bigint of 60 bits from hexadecimal digits."""
    return f"('x' || substr({hexadecimal}, {place}, 15))::bit(60)::bigint"


def from_parts(expressions: Mapping[str, str], result: str) -> str:
    """Return a query of one row, with names for the parts of an expression."""
    parts = ", ".join(f"{sql} AS {name}" for name, sql in expressions.items())
    return f"(SELECT {result} FROM (SELECT {parts} OFFSET 0) AS {_ALIAS})"


def _picked(value: Value, kind: str, choices: Sequence[str]) -> str:
    """Return the SQL of one of 64 words, another one than the value."""
    place = f"(get_byte({value.digest(kind)}, 0) & 63)"
    array = "'{" + ",".join(choices) + "}'::text[]"
    return from_parts(
        {"w": array, "i": place, "v": value.text},
        "CASE WHEN w[i + 1] <> v THEN w[i + 1] ELSE w[(i + 1) % 64 + 1] END",
    )


def first_name(value: Value) -> str:
    return _picked(value, "first_name", words.FIRST)


def last_name(value: Value) -> str:
    return _picked(value, "last_name", words.LAST)


def name(value: Value) -> str:
    return f"{first_name(value)} || ' ' || {last_name(value)}"


def email(value: Value) -> str:
    room = 17 if value.column.most is None else value.column.most - len(DOMAIN)
    if room < 9:
        raise Unfit(f"it has room for {value.column.most} characters, an address needs 21")
    return f"'u' || left({hexadecimal(value.digest('email'))}, {min(room, 17) - 1}) || '{DOMAIN}'"


def phone(value: Value) -> str:
    """Return as many digits as before, after the + if there is one."""
    digits = f"lpad(({number('h')} % 1000000000000000000)::text, 18, '0')"
    more = f"lpad(({number('h', 16)} % 1000000000000000000)::text, 18, '0')"
    length = "CASE WHEN n = 0 THEN 7 ELSE n END"
    chosen = from_parts(
        {
            "h": hexadecimal(value.digest("phone")),
            "n": f"least(length(regexp_replace({value.text}, '[^0-9]', '', 'g')), 36)",
        },
        f"left({digits} || {more}, {length})",
    )
    plus = f"CASE WHEN {value.text} LIKE '+%' THEN '+' ELSE '' END"
    return _other(f"{plus} || {chosen}", value, "translate({0}, '0123456789', '1234567890')")


def _other(sql: str, value: Value, otherwise: str) -> str:
    """Return the SQL of a result that is changed once more if it is the value itself."""
    changed = otherwise.format("r")
    return from_parts({"r": sql, "v": value.text}, f"CASE WHEN r <> v THEN r ELSE {changed} END")


def text(value: Value) -> str:
    """Return letters, as many as before, with blanks if they are many."""
    letters = "translate(h, '0123456789abcdef', '{}')"
    short = _other(
        f"left({letters.format(_LETTERS)}, n)",
        value,
        f"translate({{0}}, '{_LETTERS}', '{_LETTERS[1:]}{_LETTERS[0]}')",
    )
    long = f"rpad('E', n - 1, {letters.format(_WORDS)}) || 'e'"
    return from_parts(
        {"h": hexadecimal(value.digest("text")), "n": f"length({value.sql}::text)"},
        f"CASE WHEN n < 16 THEN {short} ELSE {long} END",
    )


def hashed(value: Value) -> str:
    digest = value.digest("hash")
    integer = number(hexadecimal(digest))
    if value.type in TEXT:
        return digits(value, hash_length(value.column))
    if value.type == "numeric":
        whole = whole_digits(value.column)
        return f"({integer}) % 10::numeric ^ {whole}"
    kinds: dict[str, str] = {
        "int8": integer,
        "int4": _other_integer(f"(({integer}) & 2147483647)::int", value),
        "int2": _other_integer(f"(({integer}) & 32767)::int2", value),
        "uuid": f"encode(substring({digest}, 1, 16), 'hex')::uuid",
        "bytea": digest,
    }
    return kinds[value.type]


def digits(value: Value, length: int) -> str:
    """Return some hexadecimal digits of the digest; few could be the value itself by chance."""
    sql = f"left({hexadecimal(value.digest('hash'))}, {length})"
    if length >= WIDE:
        return sql
    return _other(sql, value, "translate({0}, '0123456789abcdef', '123456789abcdef0')")


def _other_integer(sql: str, value: Value) -> str:
    result = f"CASE WHEN r <> v THEN r ELSE (r # 1)::{value.type} END"
    return from_parts({"r": sql, "v": value.sql}, result)


def hash_length(column: Column) -> int:
    return min(64, 32 if column.most is None else column.most)


def whole_digits(column: Column) -> int:
    return ((column.modifier - 4) >> 16) - column.scale if column.modifier > 4 else 18


def uuid(value: Value) -> str:
    if value.column.most is not None and value.column.most < 36:
        raise Unfit(f"it has room for {value.column.most} characters, a UUID needs 36")
    sql = f"encode(substring({value.digest('uuid')}, 1, 16), 'hex')::uuid"
    return sql if value.type == "uuid" else f"({sql})::text"


def ip(value: Value) -> str:
    """Return an address in 10.0.0.0/8."""
    return from_parts(
        {"d": value.digest("ip")},
        "('10.' || get_byte(d, 0) || '.' || get_byte(d, 1) || '.' || get_byte(d, 2))::inet",
    )


def null(value: Value) -> str:
    if value.column.required:
        raise Unfit("it is NOT NULL")
    return "NULL"

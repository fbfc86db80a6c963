"""The ready-made masks, as SQL that every supported server has without extensions.

Each is a function of the key and of the value alone, so that a value has the same mask in every
table. None returns the value itself, if there is another choice. A null stays null. Those that
are `wide` keep distinct values distinct: about 60 bits of the digest or more, so that among ten
million values the chance of two that become equal is below one in 20,000.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pgtasks.copy.mask import key, values
from pgtasks.copy.mask.columns import Column
from pgtasks.errors import BadConfiguration
from pgtasks.server.quoting import identifier


@dataclass(frozen=True)
class Ready:
    """A ready-made mask: its SQL for a value, and the types that it is for.

    `wide` says whether distinct values stay distinct, for a column. `keyed` ones need a key.
    `by` is another column that the mask reads.
    """

    sql: Callable[[values.Value], str]
    types: tuple[str, ...] = values.TEXT
    wide: Callable[[Column], bool] = lambda column: False
    keyed: bool = True
    by: str = ""

    def masked(self, column: Column, encoding: str) -> str:
        """Return the SQL of a column's mask, raising Unfit."""
        own = f"{identifier(column.table)}.{identifier(column.name)}"
        kind = column.element or column.base
        if self.types and kind not in self.types:
            raise values.Unfit(
                f"it is of type {column.cast}, the mask is for {', '.join(self.types)}"
            )
        if self.sql is values.null:
            return self.sql(values.Value(own, column, encoding))
        if column.element:
            each = self.sql(values.Value('"pgtasks item".v', column, encoding))
            return (
                f"CASE WHEN {own} IS NOT NULL THEN ARRAY(SELECT CASE WHEN v IS NOT NULL"
                f' THEN {each} END FROM unnest({own}) WITH ORDINALITY AS "pgtasks item"(v, n)'
                " ORDER BY n) END"
            )
        return (
            f"CASE WHEN {own} IS NOT NULL THEN {self.sql(values.Value(own, column, encoding))} END"
        )


def _hash_is_wide(column: Column) -> bool:
    kind = column.element or column.base
    if kind in values.TEXT:
        return values.hash_length(column) >= values.WIDE
    if kind == "numeric":
        return values.whole_digits(column) >= 18
    return kind in ("int8", "uuid", "bytea")


def _email_is_wide(column: Column) -> bool:
    return column.most is None or column.most >= len(values.DOMAIN) + 1 + values.WIDE


SIMPLE: Mapping[str, Ready] = {
    "name": Ready(values.name),
    "first_name": Ready(values.first_name),
    "last_name": Ready(values.last_name),
    "email": Ready(values.email, wide=_email_is_wide),
    "phone": Ready(values.phone),
    "text": Ready(values.text),
    "hash": Ready(
        values.hashed,
        (*values.TEXT, *values.INTEGERS, "numeric", "uuid", "bytea"),
        wide=_hash_is_wide,
    ),
    "uuid": Ready(values.uuid, (*values.TEXT, "uuid"), wide=lambda column: True),
    "ip": Ready(values.ip, ("inet",)),
    "null": Ready(values.null, (), wide=lambda column: True, keyed=False),
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

    def sql(value: values.Value) -> str:
        if value.column.most is not None and value.column.most < number:
            raise values.Unfit(f"it has room for {value.column.most} characters")
        return values.digits(value, number)

    return Ready(sql, wide=lambda column: number >= values.WIDE)


def _date(days: int, by: str | None) -> Ready:
    """Return the mask that moves a date by up to some days, never by none."""
    if not days:
        raise BadConfiguration("date 0 days leaves a date as it is")

    name = (by or "").strip('"')

    def sql(value: values.Value) -> str:
        digest = value.digest("date")
        if name:
            other = f"{identifier(value.column.table)}.{identifier(name)}"
            digest = key.digest(f"'date:' || coalesce({other}::text, '')", value.encoding)
        shift = values.from_parts(
            {"h": values.hexadecimal(digest)},
            f"(1 + {values.number('h')} % {days})::int"
            " * (CASE WHEN substr(h, 64) < '8' THEN 1 ELSE -1 END)",
        )
        if value.type == "date":
            return f"{value.sql} + {shift}"
        return f"{value.sql} + make_interval(days => {shift})"

    return Ready(sql, values.DATES, by=name)


def _range(least: int, most: int) -> Ready:
    """Return the mask that gives another number of a range."""
    if least >= most:
        raise BadConfiguration(f"number {least} to {most}: the second number must be larger")

    def sql(value: values.Value) -> str:
        scale = {"numeric": value.column.scale, "money": 2}.get(value.type, 0)
        if value.type.startswith("float"):
            scale = 2
        unit = 10**scale
        choices = (most - least) * unit + 1
        result = f"({least} * {unit}::numeric + (h + {{0}}) % {choices}) / {unit}"
        first, second = result.format(0), result.format(1)
        kind = "numeric" if value.type in ("numeric", "money") else value.type
        return values.from_parts(
            {
                "h": values.number(values.hexadecimal(value.digest("number"))),
                "v": f"{value.sql}::numeric",
            },
            f"(CASE WHEN {first} <> v THEN {first} ELSE {second} END)::{kind}",
        )

    return Ready(sql, values.NUMBERS)


def _percent(percent: int) -> Ready:
    """Return the mask that moves a number by up to some percent, but always a little."""

    def sql(value: values.Value) -> str:
        scale = value.column.scale if value.type in ("numeric", "money") else 0
        if value.type.startswith("float"):
            scale = 2
        kind = "numeric" if value.type in ("numeric", "money") else value.type
        part = f"(h % 2001 - 1000) / 1000.0 * {percent} / 100"
        moved = f"round(v + v * {part}, {scale})"
        unit = f"{10**-scale:.{scale}f}"
        return values.from_parts(
            {
                "h": values.number(values.hexadecimal(value.digest("number"))),
                "v": f"{value.sql}::numeric",
            },
            f"(CASE WHEN {moved} <> v THEN {moved} ELSE v + {unit} END)::{kind}",
        )

    return Ready(sql, values.NUMBERS)


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

    def sql(value: values.Value) -> str:
        text = replace(value.column, base="text", element="", cast="text", modifier=-1)
        built = _object(f"{value.sql}::jsonb", tree, replace(value, column=text))
        return built if value.type == "jsonb" else f"({built})::{value.type}"

    return Ready(sql, ("json", "jsonb"))


_OF_JSON = ("first_name", "last_name", "email", "phone", "text", "hash", "uuid")


def _object(value: str, tree: Mapping[str, object], context: values.Value) -> str:
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

"""Guess a mask for a column, by its name, its type and some of its values, and say why."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pgtasks.copy.mask import ready
from pgtasks.copy.mask.columns import Column
from pgtasks.copy.mask.rules import PLAIN
from pgtasks.copy.mask.values import Unfit
from pgtasks.report import plural

LONGEST = 200  # characters of a value that are looked at
_FEW = 20  # distinct values of a column that holds words of a list
_MOST = 0.9  # the share of the values of a sample that must look alike
_TEXT = ("text", "varchar", "bpchar", "citext", "name")
_NAMES = (
    (r"e_?mail", "email"),
    (r"(first|given|fore)_?name|vorname", "first_name"),
    (r"(last|family|sur)_?name|nachname", "last_name"),
    (r"(full|contact|patient|person|customer|owner)_?name", "name"),
    (r"phone|mobile|fax|^tel(_|$)", "phone"),
    (r"^ip$|ip_addr|_ip$", "ip"),
    (r"user_?name|login|password|token|secret|hash|api_key|created_by|updated_by", "hash"),
    (r"ssn|iban|passport|account_?n|insurance|licen[cs]e|card|tax_id|registration", "hash"),
    (r"address|street|city|zip|post", "text"),
    (r"note|comment|remark|message|description|reason|history|complaint|agent", "text"),
    (r"birth|born|^dob$", "date 365 days"),
)
_VALUES = (
    (r"[^@\s]+@[^@\s]+\.[^@\s]+", "email", "addresses"),
    (r"\+?[0-9][0-9 ()/-]{5,}", "phone", "phone numbers"),
    (r"[A-Z][\w'-]+( [A-Z][\w'.-]+)+", "name", "names"),
    (r"[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}", "uuid", "UUIDs"),
)


@dataclass(frozen=True)
class Guess:
    """A mask, and why."""

    mask: str
    why: str


def guess(column: Column, values: Sequence[str] | None = None, *, unique: bool = False) -> Guess:
    """Return a mask for a column; `values` is a sample, None without one."""
    for chosen in (_by_name(column), _by_values(column, values), _by_type(column, values)):
        if chosen and _fits(column, chosen.mask, unique=unique):
            return chosen
    if _fits(column, "hash", unique=unique):
        return Guess("hash", "its values are distinct" if unique else "nothing else fits")
    return Guess(PLAIN, "no ready-made mask fits: look at it")


def _fits(column: Column, mask: str, *, unique: bool) -> bool:
    found = ready.find(mask)
    if found is None:
        return True
    try:
        found.masked(column, "UTF8")
    except Unfit:
        return False
    return found.wide(column) or not unique


def _by_name(column: Column) -> Guess | None:
    if column.table in ("alembic_version", "schema_migrations"):
        return Guess(PLAIN, "the version table of migrations")
    for pattern, mask in _NAMES:
        if mask == "hash" and column.base not in (*_TEXT, "bytea"):
            continue
        if re.search(pattern, column.name, re.IGNORECASE) and _fits(column, mask, unique=False):
            return Guess(mask, "its name")
    return None


def _by_values(column: Column, values: Sequence[str] | None) -> Guess | None:
    if not values or column.base not in _TEXT:
        return None
    for pattern, mask, kind in _VALUES:
        alike = sum(bool(re.fullmatch(pattern, value)) for value in values)
        if alike >= len(values) * _MOST:
            return Guess(mask, f"{alike} of {len(values)} values look like {kind}")
    if any(len(value) >= LONGEST for value in values):
        return None  # cut values may be different ones, and no words of a list
    distinct = len(set(values))
    if distinct <= _FEW and distinct * 10 <= len(values):
        return Guess(PLAIN, f"{plural(distinct, 'distinct value')} among {len(values)}")
    return None


def _by_type(column: Column, values: Sequence[str] | None) -> Guess | None:
    kind = column.element or column.base
    if kind in _TEXT:
        return Guess("text", "text that may say anything")
    if kind == "inet":
        return Guess("ip", "an address")
    if kind in ("json", "jsonb"):
        return Guess("null" if not column.required else f"'{{}}'::{kind}", "it may hold anything")
    if kind == "bytea":
        return Guess("null" if not column.required else "hash", "it may hold anything")
    if kind in ("tsvector", "xml", "hstore"):
        return Guess(f"''::{column.cast}" if column.required else "null", "it has the words")
    return Guess(PLAIN, f"{column.cast} alone tells little")

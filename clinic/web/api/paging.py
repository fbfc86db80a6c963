"""Lists in pages: each page says where the next one begins.

A page begins after the last row of the one before (its sort keys are in `after`), not at a number
of rows: rows that come or go meanwhile shift nothing, and the last page costs what the first does.
"""

from __future__ import annotations

import base64
import binascii
import datetime
from collections.abc import Sequence
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import urlencode

import msgspec
from flask import request
from msgspec import Meta, Struct
from sqlalchemy import Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from clinic.web.api.bodies import Sent
from clinic.web.api.decoding import in_utc
from clinic.web.api.problems import wrong

Item = TypeVar("Item", bound=Struct)


class Page(Struct, Generic[Item], kw_only=True):
    """A part of a list. `next` is the address of the next page, null on the last one."""

    items: list[Item]
    next: str | None


class Paged(Sent):
    """What the query of each list may have."""

    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    after: Annotated[str, Meta(max_length=2000)] | None = None


def page(
    session: Session,
    statement: Select[Any],
    keys: Sequence[InstrumentedAttribute[Any]],
    asked: Paged,
    kind: type[Item],
) -> Page[Item]:
    """Return the page that was asked for; `keys` are columns that order the rows and are unique."""
    if asked.after is not None:
        statement = statement.where(tuple_(*keys) > tuple_(*_keys(asked.after, keys)))
    rows = session.scalars(statement.order_by(*keys).limit(asked.limit + 1)).all()
    shown = rows[: asked.limit]
    following = _address(shown[-1], keys) if len(rows) > len(shown) else None
    items = [msgspec.convert(row, kind, from_attributes=True) for row in shown]
    return Page(items=items, next=following)


def _address(row: object, keys: Sequence[InstrumentedAttribute[Any]]) -> str:
    """Return the address of the page that begins after a row."""
    values = msgspec.json.encode([getattr(row, key.key) for key in keys])
    query = request.args.to_dict() | {"after": base64.urlsafe_b64encode(values).decode()}
    return f"{request.script_root}{request.path}?{urlencode(query)}"


def _keys(after: str, keys: Sequence[InstrumentedAttribute[Any]]) -> tuple[Any, ...]:
    """Return the values of `after`, each of the type of its column."""
    types = tuple(key.type.python_type for key in keys)
    try:
        text = base64.b64decode(after, altchars=b"-_", validate=True)
        values = msgspec.json.decode(text, type=tuple[types])  # type: ignore[valid-type]
        return tuple(_checked(value) for value in values)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise wrong("after", "is none of a page: follow `next`") from None


def _checked(value: Any) -> Any:
    """Return a value that PostgreSQL takes, raising ValueError for another."""
    if isinstance(value, str) and "\0" in value:
        raise ValueError("a NUL byte")
    return in_utc(value) if isinstance(value, datetime.datetime) else value

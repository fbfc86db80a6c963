"""A list in pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from flask import abort, request
from sqlalchemy import func
from sqlalchemy.orm import Session

Row = TypeVar("Row")
Query: TypeAlias = Any  # SQLAlchemy's Select: its types would have to name each column
SIZE = 20
_MOST = 100_000


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Some rows of a list; `query` is what its address says beside the number."""

    rows: list[Row]
    total: int
    number: int = 1
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def pages(self) -> int:
        """The number of pages; an empty list has one."""
        return max(1, -(-self.total // SIZE))


def number() -> int:
    """Return the number of the page that is asked for; 404 for what is none."""
    said = request.args.get("page", "1")
    if not (said.isascii() and said.isdigit() and len(said) <= 6 and 1 <= int(said) <= _MOST):
        abort(404)
    return int(said)


def total(session: Session, found: Query) -> int:
    """Return the number of rows of a query."""
    # not a count of a subquery: that would read columns which the role may not
    counted = found.with_only_columns(func.count(), maintain_column_froms=True)
    return session.scalar(counted) or 0


def part(found: Query, number: int) -> Query:
    """Return the rows of one page of a query."""
    return found.limit(SIZE).offset((number - 1) * SIZE)

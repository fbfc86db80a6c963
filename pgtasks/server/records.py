"""Convert the rows of a query to records, checking the types of the values."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar, get_origin

from pgtasks.errors import Failed

Record = TypeVar("Record")


def records(
    rows: Sequence[tuple[Any, ...]], columns: Sequence[str], into: type[Record]
) -> list[Record]:
    """Return the rows as `into`, raising Failed for a value that is not of its type.

    A dataclass gets the columns by name, a `tuple[int, str]` by position; any other type is that of
    the only column.
    """
    import msgspec

    values: Sequence[Any] = [row[0] for row in rows]
    if dataclasses.is_dataclass(into):
        _check_names(columns, into)
        values = [dict(zip(columns, row, strict=True)) for row in rows]
    elif get_origin(into) is tuple:
        values = rows
    try:
        return msgspec.convert(values, list[into])  # type: ignore[valid-type]
    except msgspec.ValidationError as exc:
        raise Failed(f"the server's answer: {str(exc).replace('`', '')}") from None


def _check_names(columns: Sequence[str], into: Any) -> None:
    """Raise TypeError for a column that the record lacks, which would be ignored."""
    unknown = set(columns) - {field.name for field in dataclasses.fields(into)}
    if unknown:
        raise TypeError(f"{into.__name__} has no {', '.join(sorted(unknown))}")

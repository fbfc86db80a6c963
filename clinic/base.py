"""What every model of the clinic shares: names of constraints, key and record columns."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, MetaData, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import UUID as PGUUID
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# Names are spelled out so that a migration can drop what another one made. PostgreSQL's own
# choice depends on what exists already.
NAMING = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}

Key = Annotated[UUID, mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))]


class Base(DeclarativeBase):
    """Map a table of the clinic.

    Text is `text`, never `varchar(n)`: limits are CHECK constraints with a name, and a list of
    allowed values deparses the same after every dump and restore (`varchar IN (...)` does not).
    """

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text(),
        UUID: PGUUID(),
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB(),
        list[str]: ARRAY(Text()),
    }


class Recorded:
    """Add who wrote a row and when: columns that the triggers of sql/triggers keep true."""

    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), sort_order=90)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), sort_order=91)
    created_by: Mapped[str] = mapped_column(server_default=text("SESSION_USER"), sort_order=92)
    updated_by: Mapped[str] = mapped_column(server_default=text("SESSION_USER"), sort_order=93)


def one_of(column: str, *values: str) -> CheckConstraint:
    """Allow only *values* in a text column."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def filled(column: str, most: int = 200) -> CheckConstraint:
    """Refuse blank text and text longer than *most* characters."""
    return CheckConstraint(
        f"btrim({column}) <> '' AND length({column}) <= {most}", name=f"{column}_filled"
    )


__all__ = ["NAMING", "Base", "Key", "Recorded", "filled", "one_of"]

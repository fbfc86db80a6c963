"""What happened: logins, events of security, and the audit log that the triggers write."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.dialects.postgresql import INET
from sqlalchemy.orm import Mapped, mapped_column

from clinic.base import Base, Key, one_of


class Login(Base):
    """An attempt to log in, successful or not."""

    __tablename__ = "login_history"
    __table_args__ = (
        Index(None, "user_id"),
        Index(None, "attempted_at"),
        Index(
            "ix_login_history_failed",
            "username",
            "attempted_at",
            postgresql_where=text("failure IS NOT NULL"),
        ),
        one_of("failure", "unknown_user", "wrong_password", "locked", "inactive"),
    )

    login_id: Mapped[Key]
    # null: nobody of that name; set to null, not deleted, when the account goes
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.user_id", ondelete="SET NULL"))
    username: Mapped[str]
    attempted_at: Mapped[datetime] = mapped_column(server_default=func.now())
    failure: Mapped[str | None]
    ip_address: Mapped[str | None] = mapped_column(INET)
    user_agent: Mapped[str | None]


class SecurityEvent(Base):
    """What a reviewer of the application's security asks for: denials, revocations, changes.

    No foreign keys: the log outlives what it speaks of.
    """

    __tablename__ = "security_events"
    __table_args__ = (
        Index(None, "hospital_id", "occurred_at"),
        Index(None, "user_id", "occurred_at"),
        Index(None, "occurred_at"),
        CheckConstraint("event ~ '^[a-z][a-z_]{1,49}$'", name="event"),
        CheckConstraint("jsonb_typeof(details) = 'object'", name="details"),
    )

    event_id: Mapped[Key]
    occurred_at: Mapped[datetime] = mapped_column(server_default=text("clock_timestamp()"))
    event: Mapped[str]
    user_id: Mapped[UUID | None]
    hospital_id: Mapped[UUID | None]
    username: Mapped[str | None]
    ip_address: Mapped[str | None] = mapped_column(INET)
    user_agent: Mapped[str | None]
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))


class AuditLog(Base):
    """A row of another table as it was before and after a change.

    No foreign keys: the log outlives what it speaks of. One partition for each month (made by
    the migrations) and one for all other months.
    """

    __tablename__ = "audit_logs"
    __table_args__ = (
        Index(None, "table_name", "row_id", "logged_at"),
        Index(None, "hospital_id", "logged_at"),
        one_of("action", "INSERT", "UPDATE", "DELETE"),
        CheckConstraint(
            "(old_row IS NULL) = (action = 'INSERT') AND (new_row IS NULL) = (action = 'DELETE')",
            name="rows_fit_action",
        ),
        {"postgresql_partition_by": "RANGE (logged_at)"},
    )

    audit_id: Mapped[Key]
    # part of the key because a unique constraint needs the partition key
    logged_at: Mapped[datetime] = mapped_column(
        primary_key=True, server_default=text("clock_timestamp()")
    )
    hospital_id: Mapped[UUID | None]
    table_name: Mapped[str]
    row_id: Mapped[UUID]
    action: Mapped[str]
    actor: Mapped[str]
    changed: Mapped[list[str] | None]
    old_row: Mapped[dict[str, Any] | None]
    new_row: Mapped[dict[str, Any] | None]

"""Who may do what: users, sessions, roles, modules and their mappings."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import INET
from sqlalchemy.orm import Mapped, mapped_column, relationship

from clinic.base import Base, Key, Recorded, filled, one_of

# The same formats as in sql/functions/protect_password.sql, where each is explained. The trigger
# is the first wall, with a readable error; this is the second, for the day it is switched off.
PASSWORD_HASHES = (
    r"^\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}$",
    r"^\$argon2(id|i|d)\$v=[0-9]+\$m=[0-9]+,t=[0-9]+,p=[0-9]+\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{22,}$",
    r"^scrypt:[0-9]+:[0-9]+:[0-9]+\$[A-Za-z0-9]{8,}\$[0-9a-f]{128}$",
    r"^pbkdf2:sha(1|256|512):[0-9]{4,}\$[A-Za-z0-9]{8,}\$([0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{128})$",
    r"^\$scrypt\$ln=[0-9]+,r=[0-9]+,p=[0-9]+\$[A-Za-z0-9./+]{11,}\$[A-Za-z0-9./+]{43}$",
    r"^\$pbkdf2(-sha256|-sha512)?\$[0-9]{4,}\$[A-Za-z0-9./]{11,}\$[A-Za-z0-9./]{27,86}$",
)
# a list, the likeliest first: as one expression with six branches it takes ten times as long
PASSWORD_IS_HASHED = "password_hash ~ ANY (ARRAY[{}])".format(
    ", ".join(f"'{pattern}'" for pattern in PASSWORD_HASHES)
)


class User(Recorded, Base):
    """An account of one member of staff or of one patient, never of both or of neither."""

    __tablename__ = "users"
    __table_args__ = (
        ForeignKeyConstraint(
            ["hospital_id", "staff_id"],
            ["staff.hospital_id", "staff.staff_id"],
            ondelete="CASCADE",
        ),
        ForeignKeyConstraint(
            ["hospital_id", "patient_id"],
            ["patients.hospital_id", "patients.patient_id"],
            ondelete="CASCADE",
        ),
        # a composite foreign key with a null in it is not checked: the hospital needs its own
        ForeignKeyConstraint(["hospital_id"], ["hospitals.hospital_id"], ondelete="RESTRICT"),
        UniqueConstraint("hospital_id", "staff_id"),
        UniqueConstraint("hospital_id", "patient_id"),
        UniqueConstraint("username"),
        CheckConstraint("num_nonnulls(staff_id, patient_id) = 1", name="one_person"),
        CheckConstraint("username ~ '^[a-z0-9][a-z0-9._@+-]{2,99}$'", name="username"),
        CheckConstraint(PASSWORD_IS_HASHED, name="password_hash"),
        CheckConstraint("failed_logins >= 0", name="failed_logins"),
    )

    user_id: Mapped[Key]
    hospital_id: Mapped[UUID]
    staff_id: Mapped[UUID | None]
    patient_id: Mapped[UUID | None]
    username: Mapped[str]
    # loaded only where it is asked for: the application's role may not read it
    password_hash: Mapped[str] = mapped_column(deferred=True, info={"secret": True})
    failed_logins: Mapped[int] = mapped_column(server_default=text("0"))
    locked_until: Mapped[datetime | None]
    last_login_at: Mapped[datetime | None]
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))

    sessions: Mapped[list[UserSession]] = relationship(back_populates="user", passive_deletes=True)
    roles: Mapped[list[UserRole]] = relationship(back_populates="user", passive_deletes=True)


class UserSession(Base):
    """A login that lasts; of its token only the SHA-256 is kept."""

    __tablename__ = "user_sessions"
    __table_args__ = (
        UniqueConstraint("token_hash"),
        Index(None, "user_id"),
        Index(None, "expires_at"),
        CheckConstraint("token_hash ~ '^[0-9a-f]{64}$'", name="token_hash"),
        CheckConstraint("expires_at > issued_at", name="expires_later"),
        CheckConstraint("revoked_at >= issued_at", name="revoked_later"),
        one_of("kind", "web", "api"),
    )

    session_id: Mapped[Key]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.user_id", ondelete="CASCADE"))
    token_hash: Mapped[str] = mapped_column(deferred=True, info={"secret": True})
    issued_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    ip_address: Mapped[str | None] = mapped_column(INET)
    user_agent: Mapped[str | None]
    # a browser's, or of a program with tokens
    kind: Mapped[str] = mapped_column(server_default=text("'web'"))
    last_seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    remembered: Mapped[bool] = mapped_column(server_default=text("false"))

    user: Mapped[User] = relationship(back_populates="sessions")


class RefreshToken(Base):
    """A token that is exchanged for the next one, once; the session is its family."""

    __tablename__ = "refresh_tokens"
    __table_args__ = (
        Index(None, "session_id"),
        Index(None, "expires_at"),
        CheckConstraint("token_hash ~ '^[0-9a-f]{64}$'", name="token_hash"),
        CheckConstraint("expires_at > issued_at", name="expires_later"),
        CheckConstraint("used_at >= issued_at", name="used_later"),
    )

    token_hash: Mapped[str] = mapped_column(primary_key=True, info={"secret": True})
    session_id: Mapped[UUID] = mapped_column(
        ForeignKey("user_sessions.session_id", ondelete="CASCADE")
    )
    issued_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class LoginThrottle(Base):
    """Failed logins of an account from one address, or from a browser that its user knows."""

    __tablename__ = "login_throttle"
    __table_args__ = (
        Index(None, "last_at"),
        CheckConstraint("key ~ '^[0-9a-f]{64}$'", name="key"),
        CheckConstraint("failures >= 0", name="failures"),
    )

    key: Mapped[str] = mapped_column(primary_key=True)
    failures: Mapped[int] = mapped_column(server_default=text("0"))
    blocked_until: Mapped[datetime | None]
    last_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # a browser in which the user has logged in: its failures are counted apart
    is_known: Mapped[bool] = mapped_column(server_default=text("false"))


class RateLimit(Base):
    """Requests of one kind and origin in the current window; unlogged, a crash forgets them."""

    __tablename__ = "rate_limits"
    __table_args__ = (
        Index(None, "expires_at"),
        CheckConstraint("key ~ '^[a-z_]+:[0-9a-f]{64}$'", name="key"),
        CheckConstraint("hits > 0", name="hits"),
        {"prefixes": ["UNLOGGED"]},
    )

    key: Mapped[str] = mapped_column(primary_key=True)
    expires_at: Mapped[datetime]
    hits: Mapped[int]


class Role(Recorded, Base):
    """A set of permissions; the same for every hospital."""

    __tablename__ = "role_master"
    __table_args__ = (
        UniqueConstraint("code"),
        filled("name"),
        CheckConstraint("code ~ '^[a-z][a-z_]{1,49}$'", name="code"),
    )

    role_id: Mapped[Key]
    code: Mapped[str]
    name: Mapped[str]
    description: Mapped[str | None]
    is_system: Mapped[bool] = mapped_column(server_default=text("false"))


class Module(Recorded, Base):
    """A part of the application that access is granted to."""

    __tablename__ = "module_master"
    __table_args__ = (
        UniqueConstraint("code"),
        Index(None, "parent_id"),
        filled("name"),
        CheckConstraint("code ~ '^[a-z][a-z_]{1,49}$'", name="code"),
        CheckConstraint("parent_id <> module_id", name="not_its_own_parent"),
    )

    module_id: Mapped[Key]
    parent_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("module_master.module_id", ondelete="RESTRICT")
    )
    code: Mapped[str]
    name: Mapped[str]
    sort_order: Mapped[int] = mapped_column(server_default=text("0"))


class RoleAccess(Recorded, Base):
    """What a role may do in a module."""

    __tablename__ = "role_module_access"
    __table_args__ = (
        UniqueConstraint("role_id", "module_id"),
        Index(None, "module_id"),
        CheckConstraint(
            "can_view OR NOT (can_add OR can_edit OR can_delete OR can_export)",
            name="view_first",
        ),
    )

    access_id: Mapped[Key]
    role_id: Mapped[UUID] = mapped_column(ForeignKey("role_master.role_id", ondelete="CASCADE"))
    module_id: Mapped[UUID] = mapped_column(
        ForeignKey("module_master.module_id", ondelete="CASCADE")
    )
    can_view: Mapped[bool] = mapped_column(server_default=text("false"))
    can_add: Mapped[bool] = mapped_column(server_default=text("false"))
    can_edit: Mapped[bool] = mapped_column(server_default=text("false"))
    can_delete: Mapped[bool] = mapped_column(server_default=text("false"))
    can_export: Mapped[bool] = mapped_column(server_default=text("false"))


class UserRole(Recorded, Base):
    """A role given to a user."""

    __tablename__ = "user_role_mapping"
    __table_args__ = (
        UniqueConstraint("user_id", "role_id"),
        Index(None, "role_id"),
    )

    mapping_id: Mapped[Key]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.user_id", ondelete="CASCADE"))
    role_id: Mapped[UUID] = mapped_column(ForeignKey("role_master.role_id", ondelete="RESTRICT"))
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))

    user: Mapped[User] = relationship(back_populates="roles")
    role: Mapped[Role] = relationship()

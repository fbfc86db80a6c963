"""What the web application needs: sessions and tokens, throttles, events, row-level security.

Row-level security is not forced: the owner of the tables sees everything, so backups, copies and
migrations stay as they are. Everybody else sees the rows of one hospital, that of the variable
clinic.hospital, which the application sets in each transaction; none where it is not set.

Revision ID: 0002
Revises: 0001
Create Date: 2026-11-29 00:00:00
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

UUID = sa.UUID()
TEXT = sa.Text()
FLAG = sa.Boolean()
MOMENT = sa.DateTime(timezone=True)

TENANTS = (
    *("hospitals", "branches", "staff", "patients", "users", "appointments", "consultations"),
    *("prescriptions", "invoices", "security_events", "audit_logs"),
)
OWN = "hospital_id = (SELECT public.clinic_hospital())"  # in a subquery it is asked for once
OF_A_USER = (
    "EXISTS (SELECT FROM public.users u"
    " WHERE u.user_id = {table}.user_id AND u.hospital_id = (SELECT public.clinic_hospital()))"
)
OF_A_SESSION = (
    "EXISTS (SELECT FROM public.user_sessions s JOIN public.users u ON u.user_id = s.user_id"
    " WHERE s.session_id = {table}.session_id"
    " AND u.hospital_id = (SELECT public.clinic_hospital()))"
)
RULES = {
    **dict.fromkeys(TENANTS, OWN),
    **{
        table: OF_A_USER.format(table=table)
        for table in ("user_sessions", "user_role_mapping", "login_history")
    },
    "refresh_tokens": OF_A_SESSION.format(table="refresh_tokens"),
}
# Of the partitions, no policy lets anybody but the owner read past the table that they are of.
PARTITIONS = """
DO $$
DECLARE
    partition pg_catalog.regclass;
BEGIN
    FOR partition IN
        SELECT inhrelid FROM pg_catalog.pg_inherits
        WHERE inhparent = 'public.audit_logs'::pg_catalog.regclass
    LOOP
        EXECUTE 'ALTER TABLE ' || partition::text || ' {} ROW LEVEL SECURITY';
    END LOOP;
END
$$
"""


def needs(name: str, type_: Any, *, default: str | None = None) -> sa.Column[Any]:
    value = None if default is None else sa.text(default)
    return sa.Column(name, type_, server_default=value, nullable=False)


def maybe(name: str, type_: Any) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=True)


def check(name: str, rule: str) -> sa.CheckConstraint:
    # not to be named a second time by the naming convention of the models
    return sa.CheckConstraint(rule, name=op.f(name))


def primary(name: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=name)


def upgrade() -> None:
    extend_sessions()
    create_tokens()
    create_throttles()
    create_events()
    secure_rows()


def extend_sessions() -> None:
    op.add_column("user_sessions", needs("kind", TEXT, default="'web'"))
    op.add_column("user_sessions", needs("last_seen_at", MOMENT, default="now()"))
    op.add_column("user_sessions", needs("remembered", FLAG, default="false"))
    op.create_check_constraint(
        op.f("ck_user_sessions_kind"), "user_sessions", "kind IN ('web', 'api')"
    )
    # those that are over go by this; the one of open sessions alone served no query
    op.drop_index("ix_user_sessions_open", "user_sessions")
    op.create_index("ix_user_sessions_expires_at", "user_sessions", ["expires_at"])
    # nobody was seen because of a migration
    op.execute("UPDATE user_sessions SET last_seen_at = issued_at")


def create_tokens() -> None:
    op.create_table(
        "refresh_tokens",
        needs("token_hash", TEXT),
        needs("session_id", UUID),
        needs("issued_at", MOMENT, default="now()"),
        needs("expires_at", MOMENT),
        maybe("used_at", MOMENT),
        check("ck_refresh_tokens_token_hash", "token_hash ~ '^[0-9a-f]{64}$'"),
        check("ck_refresh_tokens_expires_later", "expires_at > issued_at"),
        check("ck_refresh_tokens_used_later", "used_at >= issued_at"),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["user_sessions.session_id"],
            name="fk_refresh_tokens_session_id",
            ondelete="CASCADE",
        ),
        primary("pk_refresh_tokens", "token_hash"),
    )
    op.create_index("ix_refresh_tokens_session_id", "refresh_tokens", ["session_id"])
    op.create_index("ix_refresh_tokens_expires_at", "refresh_tokens", ["expires_at"])


def create_throttles() -> None:
    op.create_table(
        "login_throttle",
        needs("key", TEXT),
        needs("failures", sa.Integer(), default="0"),
        maybe("blocked_until", MOMENT),
        needs("last_at", MOMENT, default="now()"),
        needs("is_known", FLAG, default="false"),
        check("ck_login_throttle_key", "key ~ '^[0-9a-f]{64}$'"),
        check("ck_login_throttle_failures", "failures >= 0"),
        primary("pk_login_throttle", "key"),
    )
    op.create_index("ix_login_throttle_last_at", "login_throttle", ["last_at"])
    op.create_table(
        "rate_limits",
        needs("key", TEXT),
        needs("expires_at", MOMENT),
        needs("hits", sa.Integer()),
        check("ck_rate_limits_key", "key ~ '^[a-z_]+:[0-9a-f]{64}$'"),
        check("ck_rate_limits_hits", "hits > 0"),
        primary("pk_rate_limits", "key"),
        prefixes=["UNLOGGED"],
    )
    op.create_index("ix_rate_limits_expires_at", "rate_limits", ["expires_at"])


def create_events() -> None:
    op.create_table(
        "security_events",
        needs("event_id", UUID, default="gen_random_uuid()"),
        needs("occurred_at", MOMENT, default="clock_timestamp()"),
        needs("event", TEXT),
        maybe("user_id", UUID),
        maybe("hospital_id", UUID),
        maybe("username", TEXT),
        maybe("ip_address", postgresql.INET()),
        maybe("user_agent", TEXT),
        needs("details", postgresql.JSONB(), default="'{}'"),
        check("ck_security_events_event", "event ~ '^[a-z][a-z_]{1,49}$'"),
        check("ck_security_events_details", "jsonb_typeof(details) = 'object'"),
        primary("pk_security_events", "event_id"),
    )
    for columns in (("hospital_id", "occurred_at"), ("user_id", "occurred_at"), ("occurred_at",)):
        name = "ix_security_events_" + "_".join(columns)
        op.create_index(name, "security_events", [*columns])


def secure_rows() -> None:
    op.execute(
        "CREATE FUNCTION public.clinic_hospital() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE"
        " RETURN nullif(current_setting('clinic.hospital', true), '')::uuid"
    )
    for table, rule in RULES.items():
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY own_hospital ON {table} USING ({rule})")
    # whoever may end a session may not begin it again
    op.execute(
        "CREATE POLICY stays_ended ON user_sessions AS RESTRICTIVE FOR UPDATE"
        " USING (true) WITH CHECK (revoked_at IS NOT NULL)"
    )
    op.execute(PARTITIONS.format("ENABLE"))


def downgrade() -> None:
    op.execute(PARTITIONS.format("DISABLE"))
    op.execute("DROP POLICY stays_ended ON user_sessions")
    for table in RULES:
        op.execute(f"DROP POLICY own_hospital ON {table}")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    op.execute("DROP FUNCTION public.clinic_hospital()")
    for table in ("security_events", "rate_limits", "login_throttle", "refresh_tokens"):
        op.drop_table(table)
    op.drop_index("ix_user_sessions_expires_at", "user_sessions")
    op.create_index(
        "ix_user_sessions_open",
        "user_sessions",
        ["expires_at"],
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
    for column in ("remembered", "last_seen_at", "kind"):
        op.drop_column("user_sessions", column)

"""The clinic's sixteen tables and the partitions of its audit log.

Written out in full and never importing the models: a revision says what was true when it was
made, whatever becomes of the models later.

Revision ID: 0001
Revises:
Create Date: 2026-01-01 00:00:00
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

UUID = sa.UUID()
TEXT = sa.Text()
TEXTS = postgresql.ARRAY(TEXT)
JSON = postgresql.JSONB()
INET = postgresql.INET()
FLAG = sa.Boolean()
SMALL = sa.SmallInteger()
MONEY = sa.Numeric(12, 2)
DATE = sa.Date()
MOMENT = sa.DateTime(timezone=True)

# Months that have a partition of their own; all others go to the default one. A later revision
# that adds months must first move what the default partition holds of them.
FIRST_YEAR, LAST_YEAR = 2026, 2027


PASSWORD_HASHES = (
    r"^\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}$",
    r"^\$argon2(id|i|d)\$v=[0-9]+\$m=[0-9]+,t=[0-9]+,p=[0-9]+\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{22,}$",
    r"^scrypt:[0-9]+:[0-9]+:[0-9]+\$[A-Za-z0-9]{8,}\$[0-9a-f]{128}$",
    r"^pbkdf2:sha(1|256|512):[0-9]{4,}\$[A-Za-z0-9]{8,}\$([0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{128})$",
    r"^\$scrypt\$ln=[0-9]+,r=[0-9]+,p=[0-9]+\$[A-Za-z0-9./+]{11,}\$[A-Za-z0-9./+]{43}$",
    r"^\$pbkdf2(-sha256|-sha512)?\$[0-9]{4,}\$[A-Za-z0-9./]{11,}\$[A-Za-z0-9./]{27,86}$",
)
PASSWORD_IS_HASHED = "password_hash ~ ANY (ARRAY[{}])".format(
    ", ".join(f"'{pattern}'" for pattern in PASSWORD_HASHES)
)


def key(name: str) -> sa.Column[Any]:
    return needs(name, UUID, default="gen_random_uuid()")


def needs(name: str, type_: Any, *more: Any, default: str | None = None) -> sa.Column[Any]:
    value = None if default is None else sa.text(default)
    return sa.Column(name, type_, *more, server_default=value, nullable=False)


def maybe(name: str, type_: Any) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=True)


def recorded() -> list[sa.Column[Any]]:
    return [
        needs("created_at", MOMENT, default="now()"),
        needs("updated_at", MOMENT, default="now()"),
        needs("created_by", TEXT, default="SESSION_USER"),
        needs("updated_by", TEXT, default="SESSION_USER"),
    ]


def primary(name: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=name)


def unique(name: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=name)


def check(name: str, rule: str) -> sa.CheckConstraint:
    # not to be named a second time by the naming convention of the models
    return sa.CheckConstraint(rule, name=op.f(name))


def refers(name: str, *columns: str, to: str, on_delete: str) -> sa.ForeignKeyConstraint:
    table, _, targets = to.rstrip(")").partition("(")
    there = [f"{table}.{column}" for column in targets.split(", ")]
    return sa.ForeignKeyConstraint([*columns], there, name=name, ondelete=on_delete)


def month(number: int) -> str:
    return f"{FIRST_YEAR + number // 12}_{number % 12 + 1:02}"


def create_audit_partitions() -> None:
    for number in range(12 * (LAST_YEAR - FIRST_YEAR + 1)):
        # the offset is written out: bounds must not depend on the session's time zone
        start, end = (f"{month(n).replace('_', '-')}-01 00:00:00+00" for n in (number, number + 1))
        op.execute(
            f"CREATE TABLE audit_logs_{month(number)} PARTITION OF audit_logs"
            f" FOR VALUES FROM ('{start}') TO ('{end}')"
        )
    op.execute("CREATE TABLE audit_logs_default PARTITION OF audit_logs DEFAULT")


def upgrade() -> None:
    op.create_table(
        "audit_logs",
        key("audit_id"),
        needs("logged_at", MOMENT, default="clock_timestamp()"),
        maybe("hospital_id", UUID),
        needs("table_name", TEXT),
        needs("row_id", UUID),
        needs("action", TEXT),
        needs("actor", TEXT),
        maybe("changed", TEXTS),
        maybe("old_row", JSON),
        maybe("new_row", JSON),
        check(
            "ck_audit_logs_rows_fit_action",
            "(old_row IS NULL) = (action = 'INSERT') AND (new_row IS NULL) = (action = 'DELETE')",
        ),
        check("ck_audit_logs_action", "action IN ('INSERT', 'UPDATE', 'DELETE')"),
        primary("pk_audit_logs", "audit_id", "logged_at"),
        postgresql_partition_by="RANGE (logged_at)",
    )
    op.create_index(
        "ix_audit_logs_hospital_id_logged_at", "audit_logs", ["hospital_id", "logged_at"]
    )
    op.create_index(
        "ix_audit_logs_table_name_row_id_logged_at",
        "audit_logs",
        ["table_name", "row_id", "logged_at"],
    )
    create_audit_partitions()
    op.create_table(
        "hospitals",
        key("hospital_id"),
        needs("code", TEXT),
        needs("name", TEXT),
        needs("license_no", TEXT),
        needs("email", TEXT),
        maybe("phone", TEXT),
        maybe("address", TEXT),
        needs("settings", JSON, default="'{}'"),
        needs("is_active", FLAG, default="true"),
        *recorded(),
        check("ck_hospitals_name_filled", "btrim(name) <> '' AND length(name) <= 200"),
        check("ck_hospitals_code", "code ~ '^[A-Z][A-Z0-9-]{1,15}$'"),
        check("ck_hospitals_email", "email ~ '^[^@ ]+@[^@ ]+$'"),
        primary("pk_hospitals", "hospital_id"),
        unique("uq_hospitals_code", "code"),
        unique("uq_hospitals_license_no", "license_no"),
    )
    op.create_table(
        "module_master",
        key("module_id"),
        maybe("parent_id", UUID),
        needs("code", TEXT),
        needs("name", TEXT),
        needs("sort_order", sa.Integer(), default="0"),
        *recorded(),
        check("ck_module_master_name_filled", "btrim(name) <> '' AND length(name) <= 200"),
        check("ck_module_master_code", "code ~ '^[a-z][a-z_]{1,49}$'"),
        check("ck_module_master_not_its_own_parent", "parent_id <> module_id"),
        refers(
            "fk_module_master_parent_id",
            "parent_id",
            to="module_master(module_id)",
            on_delete="RESTRICT",
        ),
        primary("pk_module_master", "module_id"),
        unique("uq_module_master_code", "code"),
    )
    op.create_index("ix_module_master_parent_id", "module_master", ["parent_id"])
    op.create_table(
        "role_master",
        key("role_id"),
        needs("code", TEXT),
        needs("name", TEXT),
        maybe("description", TEXT),
        needs("is_system", FLAG, default="false"),
        *recorded(),
        check("ck_role_master_name_filled", "btrim(name) <> '' AND length(name) <= 200"),
        check("ck_role_master_code", "code ~ '^[a-z][a-z_]{1,49}$'"),
        primary("pk_role_master", "role_id"),
        unique("uq_role_master_code", "code"),
    )
    op.create_table(
        "branches",
        key("branch_id"),
        needs("hospital_id", UUID),
        needs("name", TEXT),
        needs("address", TEXT),
        needs("city", TEXT),
        needs("postal_code", TEXT),
        maybe("phone", TEXT),
        needs("is_main", FLAG, default="false"),
        needs("is_active", FLAG, default="true"),
        *recorded(),
        check("ck_branches_name_filled", "btrim(name) <> '' AND length(name) <= 200"),
        refers(
            "fk_branches_hospital_id",
            "hospital_id",
            to="hospitals(hospital_id)",
            on_delete="RESTRICT",
        ),
        primary("pk_branches", "branch_id"),
        unique("uq_branches_hospital_id_branch_id", "hospital_id", "branch_id"),
        unique("uq_branches_hospital_id_name", "hospital_id", "name"),
    )
    op.create_index(
        "uq_branches_main",
        "branches",
        ["hospital_id"],
        unique=True,
        postgresql_where=sa.text("is_main"),
    )
    op.create_table(
        "role_module_access",
        key("access_id"),
        needs("role_id", UUID),
        needs("module_id", UUID),
        needs("can_view", FLAG, default="false"),
        needs("can_add", FLAG, default="false"),
        needs("can_edit", FLAG, default="false"),
        needs("can_delete", FLAG, default="false"),
        needs("can_export", FLAG, default="false"),
        *recorded(),
        check(
            "ck_role_module_access_view_first",
            "can_view OR NOT (can_add OR can_edit OR can_delete OR can_export)",
        ),
        refers(
            "fk_role_module_access_module_id",
            "module_id",
            to="module_master(module_id)",
            on_delete="CASCADE",
        ),
        refers(
            "fk_role_module_access_role_id",
            "role_id",
            to="role_master(role_id)",
            on_delete="CASCADE",
        ),
        primary("pk_role_module_access", "access_id"),
        unique("uq_role_module_access_role_id_module_id", "role_id", "module_id"),
    )
    op.create_index("ix_role_module_access_module_id", "role_module_access", ["module_id"])
    op.create_table(
        "patients",
        key("patient_id"),
        needs("hospital_id", UUID),
        needs("branch_id", UUID),
        needs("record_no", TEXT),
        needs("first_name", TEXT),
        needs("last_name", TEXT),
        needs("born_on", DATE),
        needs("gender", TEXT, default="'unknown'"),
        maybe("blood_group", TEXT),
        maybe("email", TEXT),
        maybe("phone", TEXT),
        needs("contact", JSON, default="'{}'"),
        needs("allergies", TEXTS, default="'{}'"),
        maybe("notes", TEXT),
        needs("is_active", FLAG, default="true"),
        *recorded(),
        check(
            "ck_patients_blood_group",
            "blood_group IN ('A+', 'A-', 'B+', 'B-', 'AB+', 'AB-', 'O+', 'O-')",
        ),
        check("ck_patients_born_on", "born_on >= DATE '1900-01-01'"),
        check(
            "ck_patients_first_name_filled", "btrim(first_name) <> '' AND length(first_name) <= 200"
        ),
        check(
            "ck_patients_last_name_filled", "btrim(last_name) <> '' AND length(last_name) <= 200"
        ),
        check("ck_patients_email", "email ~ '^[^@ ]+@[^@ ]+$'"),
        check("ck_patients_gender", "gender IN ('female', 'male', 'other', 'unknown')"),
        check("ck_patients_contact", "jsonb_typeof(contact) = 'object'"),
        refers(
            "fk_patients_hospital_id_branch_id",
            "hospital_id",
            "branch_id",
            to="branches(hospital_id, branch_id)",
            on_delete="RESTRICT",
        ),
        primary("pk_patients", "patient_id"),
        unique("uq_patients_hospital_id_patient_id", "hospital_id", "patient_id"),
        unique("uq_patients_hospital_id_record_no", "hospital_id", "record_no"),
    )
    op.create_index("ix_patients_allergies", "patients", ["allergies"], postgresql_using="gin")
    op.create_index(
        "ix_patients_contact",
        "patients",
        ["contact"],
        postgresql_using="gin",
        postgresql_ops={"contact": "jsonb_path_ops"},
    )
    op.create_index("ix_patients_hospital_id_branch_id", "patients", ["hospital_id", "branch_id"])
    op.create_index(
        "ix_patients_hospital_id_last_name_first_name",
        "patients",
        ["hospital_id", "last_name", "first_name"],
    )
    op.create_table(
        "staff",
        key("staff_id"),
        needs("hospital_id", UUID),
        needs("branch_id", UUID),
        needs("employee_code", TEXT),
        needs("job", TEXT),
        needs("first_name", TEXT),
        needs("last_name", TEXT),
        maybe("specialty", TEXT),
        maybe("registration_no", TEXT),
        needs("email", TEXT),
        maybe("phone", TEXT),
        needs("joined_on", DATE),
        maybe("left_on", DATE),
        *recorded(),
        check(
            "ck_staff_first_name_filled", "btrim(first_name) <> '' AND length(first_name) <= 200"
        ),
        check("ck_staff_last_name_filled", "btrim(last_name) <> '' AND length(last_name) <= 200"),
        check("ck_staff_email", "email ~ '^[^@ ]+@[^@ ]+$'"),
        check("ck_staff_doctor_registered", "job <> 'doctor' OR registration_no IS NOT NULL"),
        check(
            "ck_staff_job",
            "job IN ('doctor', 'nurse', 'therapist', 'receptionist', 'administrator')",
        ),
        check("ck_staff_left_after_joined", "left_on >= joined_on"),
        refers(
            "fk_staff_hospital_id_branch_id",
            "hospital_id",
            "branch_id",
            to="branches(hospital_id, branch_id)",
            on_delete="RESTRICT",
        ),
        primary("pk_staff", "staff_id"),
        unique("uq_staff_hospital_id_employee_code", "hospital_id", "employee_code"),
        unique("uq_staff_hospital_id_staff_id", "hospital_id", "staff_id"),
    )
    op.create_index("ix_staff_hospital_id_branch_id", "staff", ["hospital_id", "branch_id"])
    op.create_table(
        "appointments",
        key("appointment_id"),
        needs("hospital_id", UUID),
        needs("branch_id", UUID),
        needs("patient_id", UUID),
        needs("staff_id", UUID),
        needs("starts_at", MOMENT),
        needs("ends_at", MOMENT),
        needs("status", TEXT, default="'booked'"),
        needs("channel", TEXT, default="'phone'"),
        maybe("reason", TEXT),
        *recorded(),
        check("ck_appointments_channel", "channel IN ('phone', 'web', 'walk_in', 'referral')"),
        check(
            "ck_appointments_status",
            "status IN ('booked', 'arrived', 'completed', 'cancelled', 'no_show')",
        ),
        check("ck_appointments_ends_later", "ends_at > starts_at"),
        refers(
            "fk_appointments_hospital_id_branch_id",
            "hospital_id",
            "branch_id",
            to="branches(hospital_id, branch_id)",
            on_delete="RESTRICT",
        ),
        refers(
            "fk_appointments_hospital_id_patient_id",
            "hospital_id",
            "patient_id",
            to="patients(hospital_id, patient_id)",
            on_delete="RESTRICT",
        ),
        refers(
            "fk_appointments_hospital_id_staff_id",
            "hospital_id",
            "staff_id",
            to="staff(hospital_id, staff_id)",
            on_delete="RESTRICT",
        ),
        primary("pk_appointments", "appointment_id"),
        unique("uq_appointments_hospital_id_appointment_id", "hospital_id", "appointment_id"),
    )
    op.create_index(
        "ix_appointments_hospital_id_branch_id", "appointments", ["hospital_id", "branch_id"]
    )
    op.create_index(
        "ix_appointments_hospital_id_patient_id", "appointments", ["hospital_id", "patient_id"]
    )
    op.create_index(
        "ix_appointments_hospital_id_staff_id", "appointments", ["hospital_id", "staff_id"]
    )
    op.create_index(
        "ix_appointments_open",
        "appointments",
        ["starts_at"],
        postgresql_where=sa.text("status = 'booked'"),
    )
    op.create_index(
        "uq_appointments_slot",
        "appointments",
        ["staff_id", "starts_at"],
        unique=True,
        postgresql_where=sa.text("status <> 'cancelled'"),
    )
    op.create_table(
        "users",
        key("user_id"),
        needs("hospital_id", UUID),
        maybe("staff_id", UUID),
        maybe("patient_id", UUID),
        needs("username", TEXT),
        needs("password_hash", TEXT),
        needs("failed_logins", sa.Integer(), default="0"),
        maybe("locked_until", MOMENT),
        maybe("last_login_at", MOMENT),
        needs("is_active", FLAG, default="true"),
        *recorded(),
        check("ck_users_password_hash", PASSWORD_IS_HASHED),
        check("ck_users_username", "username ~ '^[a-z0-9][a-z0-9._@+-]{2,99}$'"),
        check("ck_users_failed_logins", "failed_logins >= 0"),
        check("ck_users_one_person", "num_nonnulls(staff_id, patient_id) = 1"),
        refers(
            "fk_users_hospital_id_patient_id",
            "hospital_id",
            "patient_id",
            to="patients(hospital_id, patient_id)",
            on_delete="CASCADE",
        ),
        refers(
            "fk_users_hospital_id_staff_id",
            "hospital_id",
            "staff_id",
            to="staff(hospital_id, staff_id)",
            on_delete="CASCADE",
        ),
        refers(
            "fk_users_hospital_id", "hospital_id", to="hospitals(hospital_id)", on_delete="RESTRICT"
        ),
        primary("pk_users", "user_id"),
        unique("uq_users_hospital_id_patient_id", "hospital_id", "patient_id"),
        unique("uq_users_hospital_id_staff_id", "hospital_id", "staff_id"),
        unique("uq_users_username", "username"),
    )
    op.create_table(
        "consultations",
        key("consultation_id"),
        needs("hospital_id", UUID),
        needs("appointment_id", UUID),
        needs("patient_id", UUID),
        needs("staff_id", UUID),
        needs("started_at", MOMENT),
        needs("complaint", TEXT),
        maybe("history", TEXT),
        maybe("examination", TEXT),
        maybe("assessment", TEXT),
        maybe("plan", TEXT),
        maybe("diagnosis_code", TEXT),
        needs("vitals", JSON, default="'{}'"),
        maybe("follow_up_on", DATE),
        *recorded(),
        check(
            "ck_consultations_complaint_filled",
            "btrim(complaint) <> '' AND length(complaint) <= 1000",
        ),
        check(
            "ck_consultations_diagnosis_code",
            "diagnosis_code ~ '^[A-Z][0-9][0-9A-Z](\\.[0-9A-Z]{1,4})?$'",
        ),
        check("ck_consultations_vitals", "jsonb_typeof(vitals) = 'object'"),
        refers(
            "fk_consultations_hospital_id_appointment_id",
            "hospital_id",
            "appointment_id",
            to="appointments(hospital_id, appointment_id)",
            on_delete="RESTRICT",
        ),
        refers(
            "fk_consultations_hospital_id_patient_id",
            "hospital_id",
            "patient_id",
            to="patients(hospital_id, patient_id)",
            on_delete="RESTRICT",
        ),
        refers(
            "fk_consultations_hospital_id_staff_id",
            "hospital_id",
            "staff_id",
            to="staff(hospital_id, staff_id)",
            on_delete="RESTRICT",
        ),
        primary("pk_consultations", "consultation_id"),
        unique("uq_consultations_hospital_id_appointment_id", "hospital_id", "appointment_id"),
        unique("uq_consultations_hospital_id_consultation_id", "hospital_id", "consultation_id"),
    )
    op.create_index(
        "ix_consultations_hospital_id_patient_id", "consultations", ["hospital_id", "patient_id"]
    )
    op.create_index(
        "ix_consultations_hospital_id_staff_id", "consultations", ["hospital_id", "staff_id"]
    )
    op.create_table(
        "login_history",
        key("login_id"),
        maybe("user_id", UUID),
        needs("username", TEXT),
        needs("attempted_at", MOMENT, default="now()"),
        maybe("failure", TEXT),
        maybe("ip_address", INET),
        maybe("user_agent", TEXT),
        check(
            "ck_login_history_failure",
            "failure IN ('unknown_user', 'wrong_password', 'locked', 'inactive')",
        ),
        refers("fk_login_history_user_id", "user_id", to="users(user_id)", on_delete="SET NULL"),
        primary("pk_login_history", "login_id"),
    )
    op.create_index("ix_login_history_attempted_at", "login_history", ["attempted_at"])
    op.create_index(
        "ix_login_history_failed",
        "login_history",
        ["username", "attempted_at"],
        postgresql_where=sa.text("failure IS NOT NULL"),
    )
    op.create_index("ix_login_history_user_id", "login_history", ["user_id"])
    op.create_table(
        "user_role_mapping",
        key("mapping_id"),
        needs("user_id", UUID),
        needs("role_id", UUID),
        needs("is_active", FLAG, default="true"),
        *recorded(),
        refers(
            "fk_user_role_mapping_role_id",
            "role_id",
            to="role_master(role_id)",
            on_delete="RESTRICT",
        ),
        refers("fk_user_role_mapping_user_id", "user_id", to="users(user_id)", on_delete="CASCADE"),
        primary("pk_user_role_mapping", "mapping_id"),
        unique("uq_user_role_mapping_user_id_role_id", "user_id", "role_id"),
    )
    op.create_index("ix_user_role_mapping_role_id", "user_role_mapping", ["role_id"])
    op.create_table(
        "user_sessions",
        key("session_id"),
        needs("user_id", UUID),
        needs("token_hash", TEXT),
        needs("issued_at", MOMENT, default="now()"),
        needs("expires_at", MOMENT),
        maybe("revoked_at", MOMENT),
        maybe("ip_address", INET),
        maybe("user_agent", TEXT),
        check("ck_user_sessions_token_hash", "token_hash ~ '^[0-9a-f]{64}$'"),
        check("ck_user_sessions_expires_later", "expires_at > issued_at"),
        check("ck_user_sessions_revoked_later", "revoked_at >= issued_at"),
        refers("fk_user_sessions_user_id", "user_id", to="users(user_id)", on_delete="CASCADE"),
        primary("pk_user_sessions", "session_id"),
        unique("uq_user_sessions_token_hash", "token_hash"),
    )
    op.create_index(
        "ix_user_sessions_open",
        "user_sessions",
        ["expires_at"],
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
    op.create_index("ix_user_sessions_user_id", "user_sessions", ["user_id"])
    op.create_table(
        "invoices",
        key("invoice_id"),
        needs("hospital_id", UUID),
        needs("patient_id", UUID),
        needs("consultation_id", UUID),
        needs("invoice_no", sa.BigInteger(), sa.Identity(always=False, start=1000001)),
        needs("issued_on", DATE),
        needs("due_on", DATE),
        needs("currency", TEXT, default="'EUR'"),
        needs("lines", JSON, default="'[]'"),
        needs("net", MONEY),
        needs("tax", MONEY, default="0"),
        needs("total", MONEY, sa.Computed("net + tax", persisted=True)),
        needs("paid", MONEY, default="0"),
        needs("status", TEXT, default="'open'"),
        *recorded(),
        check("ck_invoices_currency", "currency ~ '^[A-Z]{3}$'"),
        check("ck_invoices_lines", "jsonb_typeof(lines) = 'array'"),
        check("ck_invoices_paid_in_full", "status <> 'paid' OR paid = total"),
        check("ck_invoices_status", "status IN ('open', 'paid', 'void')"),
        check("ck_invoices_due_later", "due_on >= issued_on"),
        check("ck_invoices_amounts", "net >= 0 AND tax >= 0"),
        check("ck_invoices_paid", "paid BETWEEN 0 AND total"),
        refers(
            "fk_invoices_hospital_id_consultation_id",
            "hospital_id",
            "consultation_id",
            to="consultations(hospital_id, consultation_id)",
            on_delete="RESTRICT",
        ),
        refers(
            "fk_invoices_hospital_id_patient_id",
            "hospital_id",
            "patient_id",
            to="patients(hospital_id, patient_id)",
            on_delete="RESTRICT",
        ),
        primary("pk_invoices", "invoice_id"),
        unique("uq_invoices_invoice_no", "invoice_no"),
    )
    op.create_index(
        "ix_invoices_hospital_id_consultation_id", "invoices", ["hospital_id", "consultation_id"]
    )
    op.create_index("ix_invoices_hospital_id_patient_id", "invoices", ["hospital_id", "patient_id"])
    op.create_index(
        "ix_invoices_unpaid", "invoices", ["due_on"], postgresql_where=sa.text("status = 'open'")
    )
    op.create_table(
        "prescriptions",
        key("prescription_id"),
        needs("hospital_id", UUID),
        needs("consultation_id", UUID),
        needs("line_no", SMALL),
        needs("medication", TEXT),
        needs("strength", TEXT),
        needs("frequency", TEXT),
        needs("duration_days", SMALL),
        needs("refills", SMALL, default="0"),
        maybe("instructions", TEXT),
        *recorded(),
        check(
            "ck_prescriptions_medication_filled",
            "btrim(medication) <> '' AND length(medication) <= 200",
        ),
        check("ck_prescriptions_duration_days", "duration_days BETWEEN 1 AND 366"),
        check("ck_prescriptions_line_no", "line_no > 0"),
        check("ck_prescriptions_refills", "refills BETWEEN 0 AND 12"),
        refers(
            "fk_prescriptions_hospital_id_consultation_id",
            "hospital_id",
            "consultation_id",
            to="consultations(hospital_id, consultation_id)",
            on_delete="CASCADE",
        ),
        primary("pk_prescriptions", "prescription_id"),
        unique("uq_prescriptions_consultation_id_line_no", "consultation_id", "line_no"),
    )
    op.create_index(
        "ix_prescriptions_hospital_id_consultation_id",
        "prescriptions",
        ["hospital_id", "consultation_id"],
    )


def downgrade() -> None:
    # indexes, partitions and triggers go with their tables
    for table in (
        "prescriptions",
        "invoices",
        "user_sessions",
        "user_role_mapping",
        "login_history",
        "consultations",
        "users",
        "appointments",
        "staff",
        "patients",
        "role_module_access",
        "branches",
        "role_master",
        "module_master",
        "hospitals",
        "audit_logs",
    ):
        op.drop_table(table)

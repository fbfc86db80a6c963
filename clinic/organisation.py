"""The tenants and their people: hospitals, branches, staff, patients."""

from __future__ import annotations

from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from clinic.base import Base, Key, Recorded, filled, one_of

# A second key (hospital_id, X_id) on what other tables point at: their foreign keys carry the
# hospital along, so no row of one hospital can ever refer to a row of another.


class Hospital(Recorded, Base):
    """A tenant."""

    __tablename__ = "hospitals"
    __table_args__ = (
        UniqueConstraint("code"),
        UniqueConstraint("license_no"),
        filled("name"),
        CheckConstraint("code ~ '^[A-Z][A-Z0-9-]{1,15}$'", name="code"),
        CheckConstraint("email ~ '^[^@ ]+@[^@ ]+$'", name="email"),
    )

    hospital_id: Mapped[Key]
    code: Mapped[str]
    name: Mapped[str]
    license_no: Mapped[str]
    email: Mapped[str]
    phone: Mapped[str | None]
    address: Mapped[str | None]
    settings: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))

    branches: Mapped[list[Branch]] = relationship(back_populates="hospital")


class Branch(Recorded, Base):
    """A place where a hospital receives patients."""

    __tablename__ = "branches"
    __table_args__ = (
        UniqueConstraint("hospital_id", "branch_id"),
        UniqueConstraint("hospital_id", "name"),
        filled("name"),
        # one main branch for each hospital
        Index(
            "uq_branches_main",
            "hospital_id",
            unique=True,
            postgresql_where=text("is_main"),
        ),
    )

    branch_id: Mapped[Key]
    hospital_id: Mapped[UUID] = mapped_column(
        ForeignKey("hospitals.hospital_id", ondelete="RESTRICT")
    )
    name: Mapped[str]
    address: Mapped[str]
    city: Mapped[str]
    postal_code: Mapped[str]
    phone: Mapped[str | None]
    is_main: Mapped[bool] = mapped_column(server_default=text("false"))
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))

    hospital: Mapped[Hospital] = relationship(back_populates="branches")


class Staff(Recorded, Base):
    """Somebody who works for a hospital."""

    __tablename__ = "staff"
    __table_args__ = (
        ForeignKeyConstraint(
            ["hospital_id", "branch_id"],
            ["branches.hospital_id", "branches.branch_id"],
            ondelete="RESTRICT",
        ),
        UniqueConstraint("hospital_id", "staff_id"),
        UniqueConstraint("hospital_id", "employee_code"),
        Index(None, "hospital_id", "branch_id"),
        filled("first_name"),
        filled("last_name"),
        one_of("job", "doctor", "nurse", "therapist", "receptionist", "administrator"),
        CheckConstraint("email ~ '^[^@ ]+@[^@ ]+$'", name="email"),
        CheckConstraint("left_on >= joined_on", name="left_after_joined"),
        CheckConstraint("job <> 'doctor' OR registration_no IS NOT NULL", name="doctor_registered"),
    )

    staff_id: Mapped[Key]
    hospital_id: Mapped[UUID]
    branch_id: Mapped[UUID]
    employee_code: Mapped[str]
    job: Mapped[str]
    first_name: Mapped[str]
    last_name: Mapped[str]
    specialty: Mapped[str | None]
    registration_no: Mapped[str | None]
    email: Mapped[str]
    phone: Mapped[str | None]
    joined_on: Mapped[date]
    left_on: Mapped[date | None]


class Patient(Recorded, Base):
    """Somebody who receives care."""

    __tablename__ = "patients"
    __table_args__ = (
        ForeignKeyConstraint(
            ["hospital_id", "branch_id"],
            ["branches.hospital_id", "branches.branch_id"],
            ondelete="RESTRICT",
        ),
        UniqueConstraint("hospital_id", "patient_id"),
        UniqueConstraint("hospital_id", "record_no"),
        Index(None, "hospital_id", "branch_id"),
        Index(None, "hospital_id", "last_name", "first_name"),
        # the question is "who has an allergy or a contact like this": containment, by GIN
        Index(
            "ix_patients_contact",
            "contact",
            postgresql_using="gin",
            postgresql_ops={"contact": "jsonb_path_ops"},
        ),
        Index("ix_patients_allergies", "allergies", postgresql_using="gin"),
        filled("first_name"),
        filled("last_name"),
        one_of("gender", "female", "male", "other", "unknown"),
        one_of("blood_group", "A+", "A-", "B+", "B-", "AB+", "AB-", "O+", "O-"),
        CheckConstraint("born_on >= DATE '1900-01-01'", name="born_on"),
        CheckConstraint("email ~ '^[^@ ]+@[^@ ]+$'", name="email"),
        CheckConstraint("jsonb_typeof(contact) = 'object'", name="contact"),
    )

    patient_id: Mapped[Key]
    hospital_id: Mapped[UUID]
    branch_id: Mapped[UUID]
    record_no: Mapped[str]
    first_name: Mapped[str]
    last_name: Mapped[str]
    born_on: Mapped[date]
    gender: Mapped[str] = mapped_column(server_default=text("'unknown'"))
    blood_group: Mapped[str | None]
    email: Mapped[str | None]
    phone: Mapped[str | None]
    contact: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    allergies: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    notes: Mapped[str | None]
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))

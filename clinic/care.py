"""The daily work: appointments, consultations, prescriptions, invoices."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    ForeignKeyConstraint,
    Identity,
    Index,
    Numeric,
    SmallInteger,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from clinic.base import Base, Key, Recorded, filled, one_of


class Appointment(Recorded, Base):
    """A patient is expected by a member of staff at a branch."""

    __tablename__ = "appointments"
    __table_args__ = (
        ForeignKeyConstraint(
            ["hospital_id", "branch_id"],
            ["branches.hospital_id", "branches.branch_id"],
            ondelete="RESTRICT",
        ),
        ForeignKeyConstraint(
            ["hospital_id", "patient_id"],
            ["patients.hospital_id", "patients.patient_id"],
            ondelete="RESTRICT",
        ),
        ForeignKeyConstraint(
            ["hospital_id", "staff_id"],
            ["staff.hospital_id", "staff.staff_id"],
            ondelete="RESTRICT",
        ),
        UniqueConstraint("hospital_id", "appointment_id"),
        Index(None, "hospital_id", "branch_id"),
        Index(None, "hospital_id", "patient_id"),
        Index(None, "hospital_id", "staff_id"),
        # nobody is in two places at once; a cancelled hour is free again
        Index(
            "uq_appointments_slot",
            "staff_id",
            "starts_at",
            unique=True,
            postgresql_where=text("status <> 'cancelled'"),
        ),
        Index(
            "ix_appointments_open",
            "starts_at",
            postgresql_where=text("status = 'booked'"),
        ),
        one_of("status", "booked", "arrived", "completed", "cancelled", "no_show"),
        one_of("channel", "phone", "web", "walk_in", "referral"),
        CheckConstraint("ends_at > starts_at", name="ends_later"),
    )

    appointment_id: Mapped[Key]
    hospital_id: Mapped[UUID]
    branch_id: Mapped[UUID]
    patient_id: Mapped[UUID]
    staff_id: Mapped[UUID]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    status: Mapped[str] = mapped_column(server_default=text("'booked'"))
    channel: Mapped[str] = mapped_column(server_default=text("'phone'"))
    reason: Mapped[str | None]


class Consultation(Recorded, Base):
    """What was said, found and decided when the patient came."""

    __tablename__ = "consultations"
    __table_args__ = (
        ForeignKeyConstraint(
            ["hospital_id", "appointment_id"],
            ["appointments.hospital_id", "appointments.appointment_id"],
            ondelete="RESTRICT",
        ),
        ForeignKeyConstraint(
            ["hospital_id", "patient_id"],
            ["patients.hospital_id", "patients.patient_id"],
            ondelete="RESTRICT",
        ),
        ForeignKeyConstraint(
            ["hospital_id", "staff_id"],
            ["staff.hospital_id", "staff.staff_id"],
            ondelete="RESTRICT",
        ),
        UniqueConstraint("hospital_id", "consultation_id"),
        UniqueConstraint("hospital_id", "appointment_id"),
        Index(None, "hospital_id", "patient_id"),
        Index(None, "hospital_id", "staff_id"),
        filled("complaint", 1000),
        CheckConstraint(
            "diagnosis_code ~ '^[A-Z][0-9][0-9A-Z](\\.[0-9A-Z]{1,4})?$'", name="diagnosis_code"
        ),
        CheckConstraint("jsonb_typeof(vitals) = 'object'", name="vitals"),
    )

    consultation_id: Mapped[Key]
    hospital_id: Mapped[UUID]
    appointment_id: Mapped[UUID]
    patient_id: Mapped[UUID]
    staff_id: Mapped[UUID]
    started_at: Mapped[datetime]
    complaint: Mapped[str]
    history: Mapped[str | None]
    examination: Mapped[str | None]
    assessment: Mapped[str | None]
    plan: Mapped[str | None]
    diagnosis_code: Mapped[str | None]
    vitals: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    follow_up_on: Mapped[date | None]


class Prescription(Recorded, Base):
    """One line of what a consultation prescribed."""

    __tablename__ = "prescriptions"
    __table_args__ = (
        # a prescription is part of its consultation and goes with it
        ForeignKeyConstraint(
            ["hospital_id", "consultation_id"],
            ["consultations.hospital_id", "consultations.consultation_id"],
            ondelete="CASCADE",
        ),
        UniqueConstraint("consultation_id", "line_no"),
        Index(None, "hospital_id", "consultation_id"),
        filled("medication"),
        CheckConstraint("line_no > 0", name="line_no"),
        CheckConstraint("duration_days BETWEEN 1 AND 366", name="duration_days"),
        CheckConstraint("refills BETWEEN 0 AND 12", name="refills"),
    )

    prescription_id: Mapped[Key]
    hospital_id: Mapped[UUID]
    consultation_id: Mapped[UUID]
    line_no: Mapped[int] = mapped_column(SmallInteger)
    medication: Mapped[str]
    strength: Mapped[str]
    frequency: Mapped[str]
    duration_days: Mapped[int] = mapped_column(SmallInteger)
    refills: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    instructions: Mapped[str | None]


class Invoice(Recorded, Base):
    """What a consultation costs, and what of it was paid."""

    __tablename__ = "invoices"
    __table_args__ = (
        ForeignKeyConstraint(
            ["hospital_id", "patient_id"],
            ["patients.hospital_id", "patients.patient_id"],
            ondelete="RESTRICT",
        ),
        ForeignKeyConstraint(
            ["hospital_id", "consultation_id"],
            ["consultations.hospital_id", "consultations.consultation_id"],
            ondelete="RESTRICT",
        ),
        UniqueConstraint("invoice_no"),
        Index(None, "hospital_id", "patient_id"),
        Index(None, "hospital_id", "consultation_id"),
        Index("ix_invoices_unpaid", "due_on", postgresql_where=text("status = 'open'")),
        one_of("status", "open", "paid", "void"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        CheckConstraint("due_on >= issued_on", name="due_later"),
        CheckConstraint("net >= 0 AND tax >= 0", name="amounts"),
        CheckConstraint("paid BETWEEN 0 AND total", name="paid"),
        CheckConstraint("status <> 'paid' OR paid = total", name="paid_in_full"),
        CheckConstraint("jsonb_typeof(lines) = 'array'", name="lines"),
    )

    invoice_id: Mapped[Key]
    hospital_id: Mapped[UUID]
    patient_id: Mapped[UUID]
    consultation_id: Mapped[UUID]
    # "by default", not "always": a copy or a seed brings its numbers along
    invoice_no: Mapped[int] = mapped_column(BigInteger, Identity(start=1000001))
    issued_on: Mapped[date]
    due_on: Mapped[date]
    currency: Mapped[str] = mapped_column(server_default=text("'EUR'"))
    lines: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    net: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    tax: Mapped[Decimal] = mapped_column(Numeric(12, 2), server_default=text("0"))
    total: Mapped[Decimal] = mapped_column(Numeric(12, 2), Computed("net + tax", persisted=True))
    paid: Mapped[Decimal] = mapped_column(Numeric(12, 2), server_default=text("0"))
    status: Mapped[str] = mapped_column(server_default=text("'open'"))

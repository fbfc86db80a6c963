"""All models of the clinic, in one place to import them from."""

from __future__ import annotations

from clinic.access import (
    LoginThrottle,
    Module,
    RateLimit,
    RefreshToken,
    Role,
    RoleAccess,
    User,
    UserRole,
    UserSession,
)
from clinic.base import Base
from clinic.care import Appointment, Consultation, Invoice, Prescription
from clinic.logs import AuditLog, Login, SecurityEvent
from clinic.organisation import Branch, Hospital, Patient, Staff

metadata = Base.metadata

__all__ = [
    "Appointment",
    "AuditLog",
    "Base",
    "Branch",
    "Consultation",
    "Hospital",
    "Invoice",
    "Login",
    "LoginThrottle",
    "Module",
    "Patient",
    "Prescription",
    "RateLimit",
    "RefreshToken",
    "Role",
    "RoleAccess",
    "SecurityEvent",
    "Staff",
    "User",
    "UserRole",
    "UserSession",
    "metadata",
]

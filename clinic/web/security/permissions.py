"""The modules and actions that routes ask for: names of the database, so that none is misspelt."""

from __future__ import annotations

ACTIONS = ("view", "add", "edit", "delete", "export")
# codes of module_master, as sql/seeds/core.sql has them
MODULES = (
    *("dashboard", "patients", "appointments", "consultations", "prescriptions", "billing"),
    *("invoices", "reports", "administration", "staff", "users", "roles", "audit", "settings"),
)


def permission(module: str, action: str) -> str:
    """Return the name of a permission, raising ValueError for one that nobody can have."""
    if module not in MODULES or action not in ACTIONS:
        raise ValueError(f"unknown permission {module}.{action}")
    return f"{module}.{action}"

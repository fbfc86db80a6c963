"""Constraints of the database, which have the last word."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError


def violated(error: DBAPIError) -> str:
    """Return the name of the constraint that a statement has violated, empty if it is no such."""
    return getattr(getattr(error.orig, "diag", None), "constraint_name", None) or ""

"""Fixtures of the web application's tests, see tests/support."""

from offices import office, office_clinic  # noqa: F401

"""The files beside a manifest, as a list of thousands of backups has read them with it."""

from __future__ import annotations

from collections.abc import Mapping

from pgtasks.backup.format import names
from pgtasks.backup.format.checks import Checks
from pgtasks.backup.format.retention import Retention
from pgtasks.errors import NotProven

Beside = Mapping[str, "bytes | str"]
"""The content of files by name, or why they cannot be read; one that is not in it is not there."""


def checks(beside: Beside) -> Checks:
    """Return the checks, none if they cannot be read."""
    content = beside.get(names.CHECKS, "")
    try:
        return Checks.parse(content) if isinstance(content, bytes) else Checks()
    except NotProven:
        return Checks()


def retention(beside: Beside) -> Retention:
    """Return what is said about keeping the backup, raising NotProven if that cannot be read."""
    content = beside.get(names.RETENTION)
    if content is None:
        return Retention()
    if isinstance(content, str):
        raise NotProven(f"{names.RETENTION}: {content}")
    return Retention.parse(content)

"""Database tasks for Python teams on PostgreSQL: `inv db.backup`, `inv db.restore`, and more."""

from __future__ import annotations

__version__ = "0.1.0"


def namespace(file: str) -> object:
    """Return the task tree for a project's tasks.py: `ns = pgtasks.namespace(__file__)`."""
    from pgtasks.collections import namespace as assembled

    return assembled(file)

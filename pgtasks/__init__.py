"""Database tasks for Python teams on PostgreSQL: `inv db.backup`, `inv db.restore`, and more."""

from __future__ import annotations

__version__ = "0.1.0"

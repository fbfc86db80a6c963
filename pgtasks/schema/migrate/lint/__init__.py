"""Find statements of revisions that block other sessions, fail on existing rows, or lose data.

rules    the built-in rules, over the parse trees of a revision's SQL
squawk   the rules of squawk, where it is installed
ignores  the rules that a revision ignores, each with a reason
report   the findings of several revisions
"""

from __future__ import annotations

from pgtasks.schema.migrate.lint.report import Linted, lint

__all__ = ["Linted", "lint"]

"""The rules that a revision ignores: `lint_ignore = {"rule": "reason"}` in its file."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

from pgtasks.errors import BadConfiguration

NAME = "lint_ignore"


def read(path: Path, shown: str) -> Mapping[str, str]:
    """Return the ignored rules with their reasons, from the source, which does not run.

    Raises BadConfiguration for anything but texts, and for an empty reason.
    """
    try:
        module = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError, ValueError) as exc:
        raise BadConfiguration(f"{shown}: {exc}") from None
    for node in module.body:
        targets = node.targets if isinstance(node, ast.Assign) else ()
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        if any(isinstance(each, ast.Name) and each.id == NAME for each in targets):
            return _value(node, shown)
    return {}


def _value(node: ast.stmt, shown: str) -> Mapping[str, str]:
    assert isinstance(node, (ast.Assign, ast.AnnAssign))
    where = f"{shown}:{node.lineno}: {NAME}"
    try:
        value = ast.literal_eval(node.value) if node.value else {}
    except ValueError:
        value = None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise BadConfiguration(f'{where}, expected {{"rule": "reason"}} in plain texts')
    for rule, reason in value.items():
        if not isinstance(reason, str) or not reason.strip():
            raise BadConfiguration(f"{where}: {rule!r} has no reason, say why it is right here")
    return value

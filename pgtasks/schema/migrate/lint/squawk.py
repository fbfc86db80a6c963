"""The rules of squawk, a linter of PostgreSQL migrations, where it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess  # nosec B404
from pathlib import Path
from typing import Any

from pgtasks.errors import Failed
from pgtasks.host import child
from pgtasks.schema.migrate.lint.rules import Finding

_SECONDS = 60
# pgtasks sets lock_timeout itself, and a revision may run long
_OURS = ("require-lock-timeout", "require-statement-timeout")


def find() -> str | None:
    """Return the path of squawk, None if it is not installed."""
    return shutil.which("squawk")


def findings(program: str, sql: str, *, root: Path, major: int) -> list[Finding]:
    """Return what squawk objects to in the SQL of one revision; a .squawk.toml of `root` counts."""
    argv = [program, "--reporter", "json", "--stdin-filepath", "revision.sql"]
    argv += ["--assume-in-transaction", "--pg-version", f"{major}.0"]
    try:
        done = child.captured(argv, input=sql, cwd=root, seconds=_SECONDS)
        listed = json.loads(done.stdout or "[]")
        return [_finding(each, sql) for each in listed if each["rule_name"] not in _OURS]
    except (OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired) as exc:
        raise Failed(f"{program} gave no findings: {type(exc).__name__}: {exc}") from None


def _finding(each: dict[str, Any], sql: str) -> Finding:
    line = int(each["line"]) + 1
    lines = sql.splitlines()
    statement = lines[line - 1].strip()[:100] if line <= len(lines) else ""
    words = [str(each[key]).strip() for key in ("message", "help") if each.get(key)]
    return Finding(str(each["rule_name"]), " ".join(" ".join(words).split()), line, statement)

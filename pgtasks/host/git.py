"""Ask git whether a file is tracked or ignored. Git may be absent."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pgtasks.host import child

WHY_NOT = "no git here, or no repository of this user's"


def tracks(path: Path) -> bool:
    """Return whether git tracks a file, false without git."""
    done = _git(path, "ls-files", "--error-unmatch", "--", path.name)
    return done is not None and done.returncode == 0


def ignores(path: Path) -> str | None:
    """Return the pattern that ignores a path (`.gitignore:3:env/`), None without git.

    The path need not exist.
    """
    done = _git(path, "check-ignore", "--no-index", "--verbose", "--", str(path))
    if done is None or done.returncode > 1:
        return None
    source, _, _ = done.stdout.partition("\t")
    return source if done.returncode == 0 and not source.rpartition(":")[2].startswith("!") else ""


def _git(path: Path, *argv: str) -> subprocess.CompletedProcess[str] | None:
    folder = next(parent for parent in path.parents if parent.is_dir())
    try:
        return child.captured(["git", *argv], cwd=folder, seconds=10)
    except (OSError, subprocess.TimeoutExpired):
        return None

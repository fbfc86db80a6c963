"""The settings of an environment's last run, as digests: what differs now is for the journal.

The file beside the journal holds a digest of each value under a key of its own. Of a secret it
holds only where it comes from, since a digest of a short password could be tried out.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pgtasks.errors import NotProven
from pgtasks.host import journal, plainfile, private
from pgtasks.report import account
from pgtasks.settings import differences
from pgtasks.settings.environment import Environment
from pgtasks.settings.project import Project
from pgtasks.settings.secret import Secret

TASK = "settings"  # of the entries
_LIMIT = 4 << 20  # bytes of the file
_SHOWN = 5  # names in the result of an entry


@dataclass(frozen=True)
class Baseline:
    """The digests of settings, by name, made with a key."""

    key: str
    digests: dict[str, str]


def note(project: Project, environment: Environment, runner: str) -> tuple[str, ...]:
    """Write an entry with the settings that differ from those of the last run; return them.

    `runner` is what runs: tasks and an application may have different variables. The first run has
    nothing to differ from. Raises OSError.
    """
    folder, name = project.folder("backups"), _file(project, environment, runner)
    before = _read(folder, name)
    key = before.key if before else secrets.token_hex(16)
    now = Baseline(key, _digests(environment, key))
    if now == before:
        return ()
    private.folder(folder)
    plainfile.replace(folder, name, json.dumps(asdict(now)).encode())
    if before is None:
        return ()
    changed = differences.between(before.digests, now.digests)
    journal.append(folder, _entry(environment, changed, runner))
    return changed


def _file(project: Project, environment: Environment, runner: str) -> str:
    # several checkouts may share one folder of backups, each with settings of its own
    checkout = hashlib.sha256(os.fsencode(project.root)).hexdigest()
    return f".settings-{environment.name}-{runner}-{checkout[:12]}.json"


def _read(folder: Path, name: str) -> Baseline | None:
    from pgtasks.host import decoding

    try:
        content = plainfile.read(folder, name, limit=_LIMIT)
        found = decoding.decode_own(content, Baseline, name)
    except (FileNotFoundError, NotADirectoryError, NotProven):
        return None
    return found if re.fullmatch("[0-9a-f]{32}", found.key) else None


def _digests(environment: Environment, key: str) -> dict[str, str]:
    salt, origins = bytes.fromhex(key), differences.origins(environment)
    return {
        name: re.sub(r":\d+\b", "", origins.get(name, "set"))  # without the line
        if isinstance(value, Secret)
        else _digest(value, salt)
        for name, value in differences.flat(environment).items()
    }


def _digest(value: Any, salt: bytes) -> str:
    content = repr(value).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(content, key=salt, digest_size=8).hexdigest()


def _entry(environment: Environment, changed: tuple[str, ...], runner: str) -> journal.Entry:
    more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    return journal.Entry(
        when=journal.now(),
        who=account.who(),
        task=TASK,
        environment=environment.name,
        database=environment.settings.database,
        result=f"changed since the last run: {', '.join(changed[:_SHOWN])}{more}",
        seconds=0.0,
        details={"runner": runner, "changed": list(changed)},
    )

"""The environment variables of programs that pgtasks starts, without secrets of the project.

The initial environment of a process can be read while it runs, by its user and by its children.
PostgreSQL's own tools get a short list of variables. Programs that the user configured (ssh and its
children, git, password_command) may need any variable, and get all except those that pgtasks reads
secrets from. Runs of pgtasks itself get these through a pipe.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO
from urllib.parse import unquote

from pgtasks.errors import BadConfiguration

_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "TZ", "TMPDIR", "LANG", "LANGUAGE")
# LD_LIBRARY_PATH: for tools that are not from a package
_KEPT_PREFIXES = ("LC_", "KRB5", "SSL_CERT", "LD_LIBRARY_PATH")
# for psql on a terminal: pager, editor, history and psqlrc
_KEPT_AT_TERMINAL = (
    *("PAGER", "EDITOR", "VISUAL", "LESS", "DISPLAY", "COLUMNS", "LINES"),
    *("PSQLRC", "PSQL_HISTORY", "PSQL_PAGER", "PSQL_EDITOR"),
)
# settings and secrets: libpq's own, ours, those of Flask-SQLAlchemy and the like
_OURS = re.compile(
    r"PG[A-Z]+|PGCONNECT_TIMEOUT|INVOKE_PGTASKS_.*|POSTGRES_URL"
    r"|.*DATABASE_(URL|URI|PASSWORD)|.*READER_PASSWORD|.*MASK_KEY|.*SECURITY_KEYS"
)
_URL_WITH_PASSWORD = re.compile(
    r"\w[\w+.-]*://[^\s/@]*:[^\s@]+@|postgres(ql)?(\+\w+)?://.*[?&](ssl)?password=", re.I | re.S
)
_HANDED_OVER = "PGTASKS_VARIABLES"  # set if variables come on stdin


def for_tools(*, terminal: bool = False) -> dict[str, str]:
    """Return the variables for a PostgreSQL tool."""
    names = _KEPT + (_KEPT_AT_TERMINAL if terminal else ())
    kept = {key: os.environ[key] for key in names if key in os.environ}
    kept.update({k: v for k, v in os.environ.items() if k.startswith(_KEPT_PREFIXES)})
    return kept


def for_programs() -> dict[str, str]:
    """Return the variables for a program that the user configured."""
    return {key: value for key, value in os.environ.items() if not _is_secret(key, value)}


def _is_secret(name: str, value: str) -> bool:
    # of any name, because settings may use any variable as their url
    url = value.strip()
    texts = (url, unquote(url))  # a parameter's name may be escaped too
    return bool(_OURS.fullmatch(name) or any(map(_URL_WITH_PASSWORD.match, texts)))


def captured(
    argv: Sequence[str], *, input: str | None = None, cwd: Path | None = None, seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run a program that the user configured, and wait for it.

    Raises OSError if it cannot be run, and subprocess.TimeoutExpired.
    """
    return subprocess.run(
        argv,
        input=input,
        stdin=subprocess.DEVNULL if input is None else None,
        capture_output=True,
        text=True,
        errors="replace",
        env=for_programs(),
        cwd=cwd,
        timeout=seconds,
        check=False,
    )


def for_own_runs(more: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the variables for a run of pgtasks, and those that it gets through a pipe."""
    known = {**os.environ, **more}
    secret = {key: value for key, value in known.items() if _is_secret(key, value)}
    plain = {key: value for key, value in known.items() if key not in secret}
    return ({**plain, _HANDED_OVER: "stdin"} if secret else plain), secret


def handed_over(variables: Mapping[str, str]) -> IO[bytes] | None:
    """Return a pipe with variables for a run of pgtasks, None if there are none.

    The caller closes it after starting the run.
    """
    if not variables:
        return None
    reader, writer = os.pipe()
    text = json.dumps(variables).encode()
    threading.Thread(target=_write, args=(writer, text), daemon=True).start()
    return os.fdopen(reader, "rb")


def _write(writer: int, text: bytes) -> None:
    try:
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(text)
    except BrokenPipeError:
        pass  # the run ended before it read them


def take_over() -> None:
    """Set the variables that the parent run passed through a pipe, if it did.

    Raises BadConfiguration if stdin contains something else.
    """
    if os.environ.pop(_HANDED_OVER, "") != "stdin":
        return
    try:
        variables = json.load(sys.stdin.buffer)
        if not isinstance(variables, dict):
            raise ValueError
        os.environ.update(variables)
    except (ValueError, TypeError, OSError, RecursionError):
        raise BadConfiguration(
            f"{_HANDED_OVER} is 'stdin' and no variables come there: unset it, it is for runs that "
            "pgtasks starts itself"
        ) from None

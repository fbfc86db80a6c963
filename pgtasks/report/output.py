"""Print results on stdout, as lines or as one JSON document."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any, Protocol

from pgtasks.errors import Failed
from pgtasks.report.console import say
from pgtasks.report.terminal import painted
from pgtasks.report.text import shown

SUMMARY = "PGTASKS_SUMMARY"  # set for one of several runs, which then prints one line


class Reported(Protocol):
    """The result of a task."""

    def lines(self) -> list[str]:
        """Return what a person reads."""

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""


def data(text: str) -> None:
    """Print text on stdout, raising Failed, or BrokenPipeError if its reader has closed it."""
    _put(painted(shown(text), sys.stdout))


def document(value: Any) -> None:
    """Print one JSON document."""
    # a name that is not UTF-8 becomes an escape, which JSON allows
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    _put(_escaped(text.encode("utf-8", "backslashreplace").decode()))


def _put(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise Failed(f"the result was not written to stdout: {exc.strerror}") from None


def _escaped(text: str) -> str:
    """Return JSON with control characters escaped."""
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def result(reported: Reported, *, json: bool) -> None:
    """Print the result of a task, as lines or as one JSON document."""
    if json:
        document(reported.as_json())
    else:
        data("\n".join(reported.lines()))


def summarize(reported: Reported) -> None:
    """Print a result in one line for the table of several environments, if this is one of them."""
    if not os.environ.get(SUMMARY):
        return
    summary = getattr(reported, "summary", None)
    text = summary() if summary else next(iter(reported.lines()), "")
    if text and "\n" not in text:  # a table has no such line
        say(f"summary: {text}")


def failure(error: str, exit_code: int, hint: str) -> Mapping[str, Any]:
    """Return the JSON document of a failed run."""
    return {"error": error, "exit_code": exit_code, "hint": hint}


def silence(stream: Any) -> None:
    """Redirect a broken stream to the null device, because Python flushes it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from pgtasks import report
from pgtasks.cli.edge import exit_of
from pgtasks.errors import Failed


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_950, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (217_000_000, "217 MB"),
        (3_400_000_000, "3.4 GB"),
        (5e15, "5000 TB"),
        (-1500, "-1.5 kB"),
    ],
)
def test_size(number: float, shown: str) -> None:
    assert report.size(number) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 ms"),
        (0.12, "120 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (99.94, "99.9 s"),
        (99.96, "1 min 40 s"),
        (185, "3 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7800, "2 h 10 min"),
        (360_000, "100 h 00 min"),
    ],
)
def test_duration(seconds: float, shown: str) -> None:
    assert report.duration(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (7199, "119 min"), (7200, "2 h"), (172_800, "2 d")],
)
def test_age(seconds: float, shown: str) -> None:
    assert report.age(seconds) == shown


def test_plural() -> None:
    assert [report.plural(n, "table") for n in (0, 1, 1234)] == [
        "0 tables",
        "1 table",
        "1,234 tables",
    ]


def said(code: str, redirect: str, env: dict[str, str] | None = None) -> Any:
    argv = ["/bin/bash", "-c", f'"$0" -c "$1" {redirect}', sys.executable, code]
    return subprocess.run(argv, capture_output=True, text=True, env={**os.environ, **(env or {})})


def test_a_document_is_json_whatever_is_in_it() -> None:
    code = (
        "from pathlib import Path; from pgtasks import report;"
        "report.document({'p': Path('/x'), 'n': 'ü 🐘 \\udcff'})"
    )
    done = said(code, "", {"PYTHONUTF8": "1"})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"p": "/x", "n": "ü 🐘 \udcff"}


def test_a_full_disk_behind_stdout_is_one_error() -> None:
    code = (
        "import sys\nfrom pgtasks import report\nfrom pgtasks.errors import Failed\n"
        "try: report.data('x')\nexcept Failed as exc: report.say(exc.message)\n"
        "report.silence(sys.stdout)"  # as cli/edge does, or Python writes it again at its end
    )
    done = said(code, ">/dev/full")
    assert done.returncode == 0
    assert done.stderr == "the result was not written to stdout: No space left on device\n"


def test_talk_never_takes_stdout() -> None:
    done = said("from pgtasks import report; report.say('talk'); report.data('data')", "2>&-")
    assert (done.returncode, done.stdout) == (0, "data\n")


HOSTILE = "a\x1b[2J\u202eb\x07\x9b31m"


@pytest.mark.parametrize("put", [report.say, report.data])
def test_a_terminal_gets_text_alone(
    put: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    put(f"{HOSTILE}\tü 🐘\nnext")
    shown = "".join(capsys.readouterr())
    assert shown == "a\\x1b[2J\\u202eb\\x07\\x9b31m\tü 🐘\nnext\n"


def test_a_document_says_the_same_without_them(capsys: pytest.CaptureFixture[str]) -> None:
    report.document({"name": HOSTILE})
    shown = capsys.readouterr().out
    assert json.loads(shown) == {"name": HOSTILE}
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_the_words_of_an_error_and_its_hint_are_text() -> None:
    exit = exit_of(Failed(HOSTILE, hint=f"{HOSTILE}\nnext"))
    assert "\x1b" not in exit.message
    assert exit.message.splitlines()[1] == "  next"


def test_colours_are_for_terminals_that_show_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    red = "\033[31merror:\033[0m x"
    assert report.painted("error: x", sys.stderr) == red
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb"), ("TERM", "")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert report.painted("error: x", sys.stderr) == "error: x"
    assert report.painted("error: x", sys.stderr) == red
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert report.painted("error: x", sys.stderr) == "error: x"

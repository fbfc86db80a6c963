from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from terminal import answer

from pgtasks import report
from pgtasks.cli.edge import exit_of
from pgtasks.errors import Failed


def test_table_aligns_and_flushes_numbers_right() -> None:
    rows = [("alpha", 5, True, None), ("b", 812_004, False, 7)]
    assert report.table(("name", "rows", "ok", "old"), rows).splitlines() == [
        "name      rows  ok     old",
        "-----  -------  -----  ---",
        "alpha        5  True     -",
        "b      812,004  False    7",
    ]


def test_table_of_nothing_has_its_headings() -> None:
    assert report.table(("a", "b"), []) == "a  b\n-  -"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b 'c' ü 🐘", "a b 'c' ü 🐘"),
        ("two\nlines\t", "two\\nlines\\t"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u202eevil", "\\u202eevil"),
        ("\udcff", "\\udcff"),
    ],
)
def test_names_in_a_table_keep_to_their_line(text: str, shown: str) -> None:
    assert report.table(("a",), [(text,)]).splitlines()[2:] == [shown]


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
        "from pgtasks import report\nfrom pgtasks.errors import Failed\n"
        "try: report.data('x')\nexcept Failed as exc: report.say(exc.message)"
    )
    done = said(code, ">/dev/full")
    assert done.returncode == 0
    assert done.stderr == "the result was not written to stdout: No space left on device\n"


def test_talk_never_takes_stdout() -> None:
    done = said("from pgtasks import report; report.say('talk'); report.data('data')", "2>&-")
    assert (done.returncode, done.stdout) == (0, "data\n")


WORK = """
import sys, time
from pgtasks import report
report.Progress._EVERY = float(sys.argv[1])
with report.Progress("dump", 1_000_000) as progress:
    for done in range(0, 1_500_001, 100_000):
        progress.update(done, note=f"t{done}")
        time.sleep(0.02)
print("end", flush=True)
"""


def test_progress_in_a_log_is_a_line_now_and_then() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORK, "0.05"], capture_output=True, text=True, check=True
    )
    lines = done.stderr.splitlines()
    assert 2 <= len(lines) <= 16
    for line in lines:
        assert re.fullmatch(r"  dump: \d.* of about 1\.0 MB, .* t\d+", line)
    assert "\x1b" not in done.stderr
    assert done.stdout == "end\n"
    quiet = [sys.executable, "-c", WORK, "10"]
    assert subprocess.run(quiet, capture_output=True, text=True, check=True).stderr == ""


def test_progress_on_a_terminal_is_a_bar_that_goes(tmp_path: Path) -> None:
    ended = answer([sys.executable, "-c", WORK, "10"], [], cwd=tmp_path, env={"TERM": "xterm"})
    assert ended.code == 0
    plain = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", ended.screen)
    assert re.search(r"dump [━╸╺]+ 1\.5 MB  [\d.]+ MB/s  t1500000\s*\n", plain)
    assert plain.endswith("end\n")
    assert ended.screen != plain


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


def test_a_table_is_no_wider_than_it_may_be() -> None:
    rows = [("20260131T020003Z-5f1c", "", "-", 12, "long " * 40), ("b", "", None, 1234567, "x")]
    text = report.table(("backup", "empty", "none", "rows", "note"), rows, width=60)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[0].split() == ["backup", "rows", "note"]
    assert "20260131T020003Z-5f1c" in lines[2]
    assert lines[2].endswith("…")
    assert report.table(("a", "b"), [("x" * 100, "y" * 100)], width=0).count("x") == 100


ID = "20260131T020003Z-5f1c"
WHEN = "2026-01-31T02:00:03Z"


@pytest.mark.parametrize("width", range(10, 130, 7))
def test_an_id_and_a_time_are_never_cut(width: int) -> None:
    headings = ("backup", "size", "rows", "proven", "note")
    rows = [(ID, "1.2 MB", 1234567, WHEN, "long " * 40), (ID, "1.2 MB", 1, None, "x")]
    text = report.table(
        headings, rows, width=width, whole=("backup", "proven"), gives=("note", "rows")
    )
    assert (text.count(ID), text.count(WHEN)) == (2, 1)
    table = not text.startswith("backup  20260131")
    assert table is (width >= len(ID) + len(WHEN) + len("1.2 MB") + 2 * 2)
    if table:
        assert max(map(len, text.splitlines())) <= max(width, 24)
        assert ("no room for: note" in text) is ("note" not in text.splitlines()[0])
    else:
        assert "size    1.2 MB\n" in text


def test_what_runs_on_is_whole_and_in_its_column() -> None:
    statement = "may not create databases (ALTER ROLE shop CREATEDB)" * 3
    rows = [("role", "note", statement), ("server", "ok", "PostgreSQL 16")]
    for width in (60, 80):
        lines = report.table(("what", "", "found"), rows, width=width, runs_on=True).splitlines()
        assert max(map(len, lines)) <= width
        assert lines[2].startswith("role    note  may not")
        assert lines[-1].startswith("server  ok    PostgreSQL")
        folded = [lines[2][:14].replace("role    note", " " * 12), *(it[:14] for it in lines[3:-1])]
        assert set(folded) == {" " * 14}
        assert " ".join(line[14:] for line in lines[2:-1]) == statement
    assert statement in report.table(("what", "", "found"), rows, width=20, runs_on=True)


@pytest.mark.parametrize(
    "command",
    [
        "inv db.recover --env prod-eu",
        "inv -r '/srv/the shop' -c dbtasks db.restore --backup 20260131T020003Z-5f1c --env test",
        "inv db.run --sql 'SELECT 1, 2' --dry",
    ],
)
def test_no_command_in_a_table_is_broken(command: str) -> None:
    rows = [("left", "note", f"a database that a restore left behind: {command} drops it")]
    for width in range(60, 120, 5):
        lines = report.table(("what", "", "found"), rows, width=width, runs_on=True).splitlines()
        assert [line.count(command) for line in lines].count(1) == 1
        assert all(len(line) <= width for line in lines if command not in line)


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

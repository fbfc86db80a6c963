"""What the suite says of itself while it runs and when it ends: see support/progress.py."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import matrix
import progress
import pytest
from paths import ROOT

TESTS = """
import time
import pytest

def test_slow():
    time.sleep(0.05)

def test_quick(): pass

@pytest.mark.parametrize("name", ["a", "b"])
def test_with_sudo(name):
    pytest.skip("sudo is not installed")

def test_broken():
    assert 0
"""


def suite(folder: Path, *args: str) -> str:
    """Run a suite of five tests and return what it says."""
    (folder / "test_five.py").write_text(TESTS)
    (folder / "conftest.py").write_text(
        "from progress import Progress\n"
        "def pytest_configure(config):\n"
        "    if not hasattr(config, 'workerinput'): config.pluginmanager.register(Progress())\n"
    )
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {ROOT}/tests/support\n")
    argv = [sys.executable, "-m", "pytest", "-p", "no:randomly", *args]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout
    return done.stdout


@pytest.mark.parametrize("args", [(), ("-n", "2")], ids=["alone", "workers"])
def test_a_run_names_failures_slow_tests_and_what_was_not_run(
    tmp_path: Path, args: tuple[str, ...]
) -> None:
    said = suite(tmp_path, *args)
    assert "FAILED test_five.py::test_broken\n" in said
    slowest = said.partition("the 3 slowest tests")[2]
    assert re.search(r"^ +0\.\d s  (\S+)", slowest, re.M)[1] == "test_five.py::test_slow"  # type: ignore[index]
    assert "= 2 tests were not run =" in said
    assert "   2  sudo is not installed: apt install sudo\n      test_five.py\n" in said


def test_a_line_says_how_far_a_run_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = progress.Progress()
    session = type("Session", (), {"testscollected": 8})
    monkeypatch.setattr(told, "_session", session)
    monkeypatch.setattr(told, "_begun", told._begun - 60)
    told._done.update(run=2, failed=1)
    line = told.line("tests/backup/test_x.py::test_y[1]")
    assert (
        line == " 25%  2 of 8 tests, 1 failed, 1:00 gone, about 3:00 left  tests/backup/test_x.py"
    )


@pytest.mark.parametrize(
    ("reason", "way"),
    [
        ("sudo is not installed", "apt install sudo"),
        ("/usr/bin/tcsh is not installed", "apt install tcsh"),
        ("/bin/tcsh is not installed", "apt install tcsh"),
        ("namespaces need root; openssh-server is not installed", "run as root"),
        ("needs a machine of its own: namespaces need root", "run as root"),
        ("namespaces cannot be made: Operation not permitted", "run where root may"),
        ("PgBouncer is not installed", "apt install pgbouncer"),
        ("this system has no PostgreSQL server of its own (14 to 18)", "apt install postgresql"),
        ("another account needs root", "run as root"),
        ("the 8 minutes of this slice were over", "make torture"),
        ("this release does not know it", ""),
    ],
)
def test_each_reason_comes_with_its_way(reason: str, way: str) -> None:
    assert progress.way(reason).startswith(way)
    assert bool(progress.way(reason)) == bool(way)


def test_a_slice_has_each_value_and_the_whole_has_each_combination() -> None:
    fields = {"step": list("abcde"), "fault": [1, 2], "place": ["x"]}
    kept = matrix.cells(whole=False, **fields)
    assert [set(column) for column in zip(*kept, strict=True)] == [set("abcde"), {1, 2}, {"x"}]
    assert len(kept) == 5
    assert len(set(matrix.cells(whole=True, **fields))) == 10


def torture(*args: str) -> str:
    """Collect the trials, or make some, and return what is said of it."""
    argv = [sys.executable, "-m", "pytest", "torture", *args]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_same_seed_makes_the_same_trials_and_another_makes_others() -> None:
    def order(text: str) -> list[str]:
        return [line for line in text.splitlines() if line.startswith("torture/test_")]

    first, again, other = (
        order(torture("--collect-only", "-q", "--seed", seed)) for seed in ("7", "7", "8")
    )
    assert first == again != other
    assert sorted(first) == sorted(other)
    assert len(first) > 800
    seeds = {re.search(r"^seed (\d+),", torture("--collect-only"), re.M)[1] for _ in range(2)}  # type: ignore[index]
    assert len(seeds) == 2


def test_a_slice_begins_no_trial_when_its_time_is_over() -> None:
    said = torture("--minutes", "0", "-k", "test_made_up_input", "-n", "2")
    assert re.search(r" 44  the 0 minutes of this slice were over: make torture,", said)

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose path has spaces, with nothing to install."""
    folder = tmp_path / "a b" / "pg tasks"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("requirements.txt", "requirements-dev.txt"):
        (folder / name).write_text("")
    (folder / "pyproject.toml").write_text("")
    (folder / "clinic").mkdir()
    (folder / "clinic" / "demo.py").write_text("import sys; print('demo', sys.argv[1:])\n")
    return folder


def make(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    argv = ["make", "--no-print-directory", *args]
    return subprocess.run(argv, cwd=folder, env=environ, text=True, capture_output=True)


def fake_python(folder: Path, body: str) -> str:
    path = folder / "fake"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return f"./{path.name}"


def test_installs_when_something_changed_and_cleans_up(checkout: Path) -> None:
    # one story, as each new environment takes seconds
    first = make(checkout, "demo", f"PYTHON=nothing-of-this-name {sys.executable}")
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[0].startswith("making .venv with Python 3.")
    assert first.stdout.splitlines()[-1] == "demo []"
    assert make(checkout, "demo").stdout == "demo []\n"

    later = (checkout / ".venv" / "installed").stat().st_mtime + 5
    os.utime(checkout / "requirements.txt", (later, later))
    again = make(checkout, "demo").stdout.splitlines()
    assert again == ["installing requirements.txt (once, and after it changes)", "demo []"]

    (checkout / ".pgtasks").mkdir()
    done = make(checkout, "clean")
    assert (done.returncode, done.stdout) == (0, "demo ['--clean']\n")
    assert not (checkout / ".venv").exists()
    assert make(checkout, "clean").stdout == (
        ".pgtasks stays: without .venv a server of it that runs cannot be stopped\n"
    )


def test_names_the_package_of_a_python_without_venv(checkout: Path) -> None:
    # what Debian's python3 says without python3-venv
    fake = fake_python(
        checkout,
        f'case "$2" in *ensurepip*) exit 1;; esac; exec {sys.executable} "$@"',
    )
    done = make(checkout, "demo", f"PYTHON={fake}")
    assert done.returncode == 2
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert done.stderr.splitlines()[0] == (
        f"{fake} cannot make a virtual environment, install its package: "
        f"apt install python{version}-venv"
    )
    assert not (checkout / ".venv").exists()


def test_says_what_it_looked_for_where_no_python_is_recent(checkout: Path) -> None:
    done = make(checkout, "demo", f"PYTHON={fake_python(checkout, 'exit 1')}")
    assert done.returncode == 2
    assert done.stderr.startswith("no Python 3.10 or newer found, looked for: ./fake;")

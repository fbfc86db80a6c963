"""Programs that are started: what of our variables they can see."""

from __future__ import annotations

import ast
import json
import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from projects import make_project

import pgtasks
from pgtasks.host import child

LIBRARY = Path(pgtasks.__file__).parent
SECRETS = {
    "PROD_DATABASE_URL": "postgresql://u:s3cret@h/d",
    "PROD_DATABASE_PASSWORD": "s3cret",
    "PROD_READER_PASSWORD": "s3cret",
    "DATABASE_URL": "postgresql://u:s3cret@h/d",
    "INVOKE_PGTASKS_ENVIRONMENTS_PROD_URL": "postgresql://u:s3cret@h/d",
    "PGPASSWORD": "s3cret",
    "OF_ANY_NAME": "postgresql+asyncpg://u:s3cret@h/d",
    "AFTER_A_BLANK": " \tpostgresql://u:s3cret@h/d",
    "AS_A_PARAMETER": "postgres://u@h/d?password=s3cret",
    "AS_THE_SECOND": "\npostgresql+psycopg2://h/d?user=u&password=s3cret",
    "ESCAPED": "postgresql://h/d?user=u&pass%77ord=s3cret",
}


def test_every_program_is_started_with_variables_of_our_choice() -> None:
    bare = [
        f"{path.name}:{call.lineno}"
        for path in sorted(LIBRARY.rglob("*.py"))
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and _starts(call)
        and not any(keyword.arg in ("env", None) for keyword in call.keywords)
    ]
    assert bare == []


def _starts(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    return name in (
        *("subprocess.run", "subprocess.Popen", "subprocess.check_output", "subprocess.call"),
        *(
            "os.system",
            "os.popen",
            "os.execv",
            "os.execvp",
            "os.spawnv",
            "pty.spawn",
            "LocalProcess",
        ),
    )


def test_programs_of_the_user_see_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_PROFILE", "shop")
    seen = child.captured([sys.executable, "-c", _PRINT], seconds=30).stdout
    assert "s3cret" not in seen
    assert json.loads(seen)["AWS_PROFILE"] == "shop"


_PRINT = "import json, os; print(json.dumps(dict(os.environ)))"


def test_a_run_of_our_own_gets_them_by_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QA_DATABASE_URL", "postgresql://u:s3cret@h/d")
    plain, secret = child.for_own_runs({"PGPASSWORD": "s3cret " * 20_000})
    code = f"from pgtasks.host import child; child.take_over(); {_PRINT}"
    first = "print(open('/proc/self/environ').read());" if Path("/proc/self").exists() else ""
    with child.handed_over(secret) as variables:  # type: ignore[union-attr]
        done = subprocess.run(
            [sys.executable, "-c", first + code],
            stdin=variables,
            capture_output=True,
            text=True,
            env=plain,
            check=True,
        )
    before, _, last = done.stdout.rstrip().rpartition("\n")
    assert "s3cret" not in before
    assert json.loads(last)["QA_DATABASE_URL"] == "postgresql://u:s3cret@h/d"
    assert json.loads(last)["PGPASSWORD"] == "s3cret " * 20_000


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"A": 1}', '{"A": "\\u0000"}', "[" * 100_000, "\udcff"]
)
def test_what_is_no_variables_is_one_line(inv: Any, tmp_path: Path, text: str) -> None:
    project = make_project(tmp_path / "shop", "postgresql://nobody@127.0.0.1:1/none")
    done = inv("env.show", cwd=project, env={"PGTASKS_VARIABLES": "stdin"}, input=text)
    assert done.returncode == 3
    assert "PGTASKS_VARIABLES is 'stdin' and no variables come there" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_nothing_that_a_task_starts_sees_them(inv: Any, tmp_path: Path) -> None:
    """ssh, what ssh runs, git and password_command write down what they see."""
    seen, bin = tmp_path / "seen", tmp_path / "bin"
    seen.mkdir()
    bin.mkdir()
    for name in ("ssh", "git", "secret"):
        program = bin / name
        program.write_text(f"#!/bin/sh\nenv > {shlex.quote(str(seen))}/{name}.$$\nexit 1\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    project = make_project(tmp_path / "shop", "postgresql://nobody@127.0.0.1:1/none")
    (project / "env" / "far.yaml").write_text("ssh: somewhere.invalid\ndatabase: d\n")
    (project / "env" / "asks.yaml").write_text(
        "host: 127.0.0.1\nport: 1\nuser: u\ndatabase: d\n"
        f"password_command: {bin}/secret --token=t0ken\n"
    )
    path = f"{bin}:{os.environ['PATH']}"
    for words in (("env.check",), ("db.check", "--env", "far"), ("db.backup", "--env", "far,asks")):
        inv(*words, cwd=project, env={**SECRETS, "PATH": path})
    names = {file.name.partition(".")[0] for file in seen.iterdir()}
    assert names == {"ssh", "git", "secret"}
    found = [file.name for file in seen.iterdir() if "s3cret" in file.read_text()]
    assert found == []
    assert "t0ken" not in inv("env.show", "--env", "asks", "--json", cwd=project).stdout


@pytest.mark.parametrize(("mode", "faults"), [(0o600, 0), (0o644, 1), (0o640, 1)])
def test_a_dotenv_file_with_a_password_that_others_may_read(
    inv: Any, project: Path, mode: int, faults: int
) -> None:
    (project / "env" / "prod.env").write_text("DATABASE_PASSWORD=s3cret\n")
    (project / "env" / "prod.env").chmod(mode)
    findings = json.loads(inv("env.check", "--json").stdout)["findings"]
    found = [each["message"] for each in findings if each["check"] == "dotenv-mode"]
    assert len(found) == faults
    assert all("chmod 600 env/prod.env" in message for message in found)

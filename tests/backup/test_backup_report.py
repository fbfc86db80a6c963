"""How well environments are backed up: backup.report, and the last line of backup.list."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from manifests import put
from projects import make_project

from pgtasks.backup import standing
from pgtasks.backup.audit import Audited, audit
from pgtasks.backup.format.checks import Checks
from pgtasks.backup.store.backup import Backup
from pgtasks.settings import project as projects

Inv = Callable[..., Any]


def ago(**span: float) -> str:
    """Return a moment of the past as a manifest and the checks have it."""
    return f"{datetime.now(timezone.utc) - timedelta(**span):%Y-%m-%dT%H:%M:%SZ}"


def backup(folder: Path, environment: str, checks: dict[str, Any], **made: Any) -> Backup:
    """Put a backup into a project's folder."""
    number = len(list(folder.glob("backups/**/manifest.json")))
    found = put(
        folder / "backups",
        id=f"20250101T000000Z-{number:04x}",
        environment=environment,
        database=environment,
        **made,
    )
    if checks:
        found.record(**checks)
    return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project whose environments are named in the tests."""
    root = make_project(tmp_path / "shop", "postgresql://x@127.0.0.1:1/dev")
    (root / "env" / "prod-eu.yaml").write_text(
        "database: prod-eu\nhost: 127.0.0.1\nport: 1\nprotected: true\n"
        "backup: {proven_within: 8d}\n"
    )
    (root / "env" / "prod-us.yaml").write_text("inherits: prod-eu\ndatabase: prod-us\n")
    return root


def audited(root: Path, env: str | None = None) -> dict[str, Audited]:
    found = audit(projects.load(root), env)
    return {each.environment: each for each in found.audited}


# --- the standing of one database


def test_the_standing_is_of_whole_backups_that_are_not_damaged(tmp_path: Path) -> None:
    backups = [
        backup(tmp_path, "a", {}, snapshot_time=ago(hours=1), schema_only=True),
        backup(tmp_path, "a", {"damaged": ago(hours=1)}, snapshot_time=ago(hours=2)),
        backup(tmp_path, "a", {}, snapshot_time=ago(hours=3)),
        backup(
            tmp_path,
            "a",
            {"proven": ago(hours=9), "drilled": ago(hours=9), "recovery": 370.0},
            snapshot_time=ago(days=2, hours=1),
        ),
        backup(tmp_path, "a", {"proven": ago(hours=1)}, snapshot_time=ago(days=9)),
    ]
    how = standing.of(backups)
    words = "last backup 3 h old, last proven one 2 d, a restore takes 6 min 10 s"
    assert how.line() == words
    assert standing.of(backups[:1]).line() == "no complete backup"


def test_a_drill_that_failed_is_said_until_something_is_proven(tmp_path: Path) -> None:
    failed = backup(tmp_path, "a", {"failed": ago(hours=2), "failure": "x"})
    assert "none is proven, the last drill failed (" in standing.of([failed]).line()
    assert (standing.of([failed]).unfit, standing.of([failed]).passed) == (failed, None)
    again = backup(tmp_path, "a", {"failed": ago(hours=1), "drilled": ago(hours=2)})
    assert (standing.of([failed, again]).unfit, standing.of([again]).passed) == (again, again)
    earlier = backup(tmp_path, "a", {"proven": ago(hours=3)})
    assert "the last drill failed" in standing.of([failed, earlier]).line()
    later = backup(tmp_path, "a", {"proven": ago(hours=1)})
    assert "failed" not in standing.of([failed, earlier, later]).line()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"proven": "2026-01-01T00:00:00Z"}', Checks(proven="2026-01-01T00:00:00Z")),
        (b'{"intact": null, "of a newer version": [1]}', Checks()),
        (b'{"recovery": -1}', Checks()),
        (b'{"drilled": "yesterday"}', Checks()),
        (b"[]", Checks()),
        (b"", Checks()),
    ],
)
def test_checks_of_other_versions_and_strangers(
    tmp_path: Path, content: bytes, expected: Checks
) -> None:
    (tmp_path / "checks.json").write_bytes(content)
    assert Checks.read(tmp_path) == expected


def test_a_long_failure_can_be_read_again(tmp_path: Path) -> None:
    Checks(failed="2026-01-01T00:00:00Z", failure="x\x1b[2J" * 100_000).write(tmp_path)
    assert len(Checks.read(tmp_path).failure) == 4_000


# --- backup.report


def test_what_is_proven_within_the_time_of_its_environment(project: Path, inv: Inv) -> None:
    young = {"proven": ago(days=1), "proven_by": "ann@db1"}
    backup(project, "prod-eu", young, snapshot_time=ago(days=7, hours=23))
    backup(project, "prod-us", {"proven": ago(days=1)}, snapshot_time=ago(days=8, hours=1))
    backup(project, "dev", {}, snapshot_time=ago(days=40))
    found = audited(project)
    results = {name: each.result for name, each in found.items() if name != "test"}
    assert results == {"dev": "no rule", "prod-eu": "ok", "prod-us": "too old"}
    done = inv("backup.report", cwd=project)
    assert done.returncode == 5
    assert "1 environment without a backup proven within " in done.stderr
    assert done.stderr.rstrip().endswith("prod-us (too old)")
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("prod-eu"))
    assert line.split() == ["prod-eu", "7", "d", "7", "d", "ann@db1", "-", "8d", "ok"]
    assert inv("backup.report", "--env", "prod-eu,dev", cwd=project).returncode == 0


def test_nothing_proven_and_nothing_at_all_are_too_little(project: Path, inv: Inv) -> None:
    backup(project, "prod-eu", {"intact": ago(hours=1)}, snapshot_time=ago(hours=2))
    done = inv("backup.report", "--env", "prod-*", "--json", cwd=project)
    assert done.returncode == 5
    said = json.loads(done.stdout)
    assert said["exit_code"] == 5
    results = {each["environment"]: each["result"] for each in said["environments"]}
    assert results == {"prod-eu": "never proven", "prod-us": "no backup"}


def test_a_host_that_does_not_answer_is_named(project: Path, inv: Inv) -> None:
    (project / "env" / "prod-us.yaml").write_text(
        "database: prod-us\nssh: deploy@127.0.0.1:1\nbackup: {proven_within: 8d}\n"
    )
    backup(project, "prod-eu", {"proven": ago(days=1)}, snapshot_time=ago(days=1))
    backup(project, "prod-us", {"proven": ago(days=9)}, snapshot_time=ago(days=9))
    done = inv("backup.report", "--env", "prod-*", cwd=project)
    assert done.returncode == 4
    assert "error: prod-us: " in done.stderr
    assert [line.split()[-1] for line in done.stdout.splitlines()[2:4]] == ["ok", "unknown"]
    # a backup here that is young enough says it, whatever the host has
    backup(project, "prod-us", {"proven": ago(days=1)}, snapshot_time=ago(days=1))
    assert audited(project)["prod-us"].result == "ok"
    alone = inv("backup.report", "--env", "prod-us", cwd=project)
    assert alone.returncode == 4
    assert "prod-us: " in alone.stderr.splitlines()[-1]
    assert "not all is known" not in alone.stdout  # the error says it, once


def test_a_newest_backup_that_cannot_be_read_is_named(project: Path) -> None:
    backup(project, "prod-eu", {"proven": ago(days=9)}, snapshot_time=ago(days=9))
    unreadable = backup(project, "prod-eu", {}, snapshot_time=ago(days=1))
    (unreadable.path / "manifest.json").write_text("{}")
    found = audited(project, "prod-eu")["prod-eu"]
    assert found.result == "unknown"
    assert unreadable.id in str(found.fault)


def test_a_bad_setting_of_one_environment_hides_no_other(project: Path, inv: Inv) -> None:
    (project / "env" / "prod-us.yaml").write_text("backup: {proven_within: 0d}\n")
    backup(project, "prod-eu", {"proven": ago(days=1)}, snapshot_time=ago(days=1))
    done = inv("backup.report", cwd=project)
    assert done.returncode == 3
    assert "expected a span of time above zero in min, h, d or w, like 12h or 7d" in done.stderr
    assert any(
        line.startswith("prod-eu") and line.endswith("ok") for line in done.stdout.split("\n")
    )

"""Settings that differ from those of the last run are in the journal, by name."""

from __future__ import annotations

import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from layout import lay_out, settings

from pgtasks.host import baseline, journal
from pgtasks.service import default
from pgtasks.settings.project import load

FILES = {
    "env/dev.yaml": "host: h1\ndatabase: d\nsettings: {mail: {port: 25, api_key: key of mail}}\n",
    "env/dev.env": "DATABASE_PASSWORD=hunter2\n",
}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return lay_out(tmp_path / "shop", FILES)


def note(app: Path, runner: str = "tasks", name: str = "dev") -> tuple[str, ...]:
    return baseline.note(load(app), settings(app, name), runner)


def entries(app: Path) -> list[journal.Entry]:
    return journal.read(app / "backups")[0]


def stored(app: Path) -> list[Path]:
    return sorted((app / "backups").glob(".settings-*"))


def test_what_differs_is_written_once_by_name(app: Path) -> None:
    assert note(app) == note(app) == ()
    assert entries(app) == []
    changed = "host: h2\ndatabase: d\njobs: 3\nsettings: {mail: {port: 26, api_key: a}}\n"
    lay_out(app, {"env/dev.yaml": changed})
    assert note(app) == ("host", "jobs", "settings.mail.port")
    assert note(app) == ()
    (entry,) = entries(app)
    assert (entry.task, entry.environment, entry.database) == ("settings", "dev", "d")
    assert entry.result == "changed since the last run: host, jobs, settings.mail.port"
    assert entry.details == {
        "runner": "tasks",
        "changed": ["host", "jobs", "settings.mail.port"],
    }


def test_nothing_secret_is_stored(app: Path) -> None:
    note(app)
    (file,) = stored(app)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for value in ("hunter2", "key of mail", "h1"):  # digests have digits and a to f
        assert value not in file.read_text()
    assert '"password": "DATABASE_PASSWORD (env/dev.env)"' in file.read_text()
    lay_out(app, {"env/dev.env": "# not even a digest\nDATABASE_PASSWORD=other\n"})
    assert note(app) == ()
    lay_out(app, {"env/dev.env": "", ".env": "DEV_DATABASE_PASSWORD=other\n"})
    assert note(app) == ("password",)


def test_digests_cannot_be_compared_between_checkouts(app: Path, tmp_path: Path) -> None:
    note(app)
    other = lay_out(tmp_path / "other", FILES)
    note(other)
    assert stored(app)[0].read_text() != stored(other)[0].read_text()


def test_each_runner_environment_and_checkout_has_its_own(app: Path, tmp_path: Path) -> None:
    other = lay_out(tmp_path / "other", {"env/dev.yaml": "host: h9\ndatabase: d\n"})
    (tmp_path / "other" / "backups").symlink_to(app / "backups")
    for _ in range(2):
        assert note(app) == note(app, "service") == note(app, name="test") == note(other) == ()
    assert len(stored(app)) == 4


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": "x", "digests": {}}', "\0" * 99])
def test_a_file_that_is_broken_is_made_anew(app: Path, content: str) -> None:
    note(app)
    stored(app)[0].write_text(content)
    assert note(app) == ()
    lay_out(app, {"env/dev.yaml": "host: h2\n"})
    assert "host" in note(app)


def test_it_takes_next_to_nothing_where_nothing_changed(app: Path) -> None:
    note(app)
    (file,) = stored(app)
    before = file.stat()
    loaded, environment = load(app), settings(app)
    took = []
    for _ in range(20):
        began = time.process_time()
        baseline.note(loaded, environment, "tasks")
        took.append(time.process_time() - began)
    assert min(took) < 0.002
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_an_application_compares_with_its_last_start(
    app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(app)
    monkeypatch.setattr(default, "_service", None)
    default.initialize_database(env="dev")
    assert not (app / "backups").exists()  # it would belong to the application's account
    (app / "backups").mkdir()
    default.initialize_database(env="dev")
    assert stored(app) == []  # as a test
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    default.initialize_database(env="dev")
    lay_out(app, {"env/dev.yaml": "host: h1\ndatabase: d\npool: {size: 9}\n"})
    default.initialize_database(env="dev")
    (entry,) = entries(app)
    assert entry.details["runner"] == "service"
    assert "pool.size" in entry.details["changed"]
    (file,) = stored(app)
    file.unlink()
    file.mkdir()
    default.initialize_database(env="dev")  # goes on


def test_a_task_compares_as_it_ends_without_its_flags(
    project: Path, inv: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    def changes() -> list[object]:
        found = journal.read(project / "backups")[0]
        return [entry.details["changed"] for entry in found if entry.task == "settings"]

    assert inv("db.backup").returncode == 0
    assert inv("db.backup", "--jobs", "3").returncode == 0
    assert changes() == []
    with (project / "env" / "dev.yaml").open("a") as file:
        file.write("seeds: [core]\n")
    assert inv("db.check").returncode == 0  # it has no line in the journal
    assert changes() == []
    assert inv("db.backup").returncode == 0
    assert inv("db.backup").returncode == 0
    assert changes() == [["seeds"]]
    (file,) = (project / "backups").glob(".settings-dev-tasks-*")
    file.unlink()
    file.mkdir()
    done = inv("db.backup")
    assert done.returncode == 0
    assert "warning: the settings were not compared with the last run's: a folder" in done.stderr
    assert journal.read(project / "backups")[0][-1].task == "db.backup"

"""What we lean on in Alembic and SQLAlchemy, without a server: see docs/upgrading.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg2
import pytest
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect

from migrations import revision, write_env
from pgtasks.errors import Unreachable
from pgtasks.schema.migrate import offline, state
from pgtasks.schema.migrate.errors import Translation
from pgtasks.schema.migrate.plan import moves
from pgtasks.schema.migrate.scripts import Scripts


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    """Return migrations with two revisions."""
    folder = tmp_path / "migrations"
    write_env(folder)
    revision(folder, "one", None, "pass")
    revision(folder, "two", "one", "pass")
    return Scripts(tmp_path, folder)


@pytest.mark.parametrize(
    ("direction", "to", "current", "steps"),
    [
        ("up", "head", (), [("one", "upgrade"), ("two", "upgrade")]),
        ("up", "+1", ("one",), [("two", "upgrade")]),
        ("down", "-1", ("two",), [("two", "downgrade")]),
        ("down", "base", ("two",), [("two", "downgrade"), ("one", "downgrade")]),
    ],
)
def test_steps_are_alembics_own(
    scripts: Scripts,
    direction: str,
    to: str,
    current: tuple[str, ...],
    steps: list[tuple[str, str]],
) -> None:
    directory = ScriptDirectory(scripts.folder)
    position = state.compare(current, directory, scripts)

    found = moves(directory, direction, to, current, position)

    assert [(each.revision.revision, each.migration_fn.__name__) for each in found] == steps


def test_a_step_prints_its_sql(scripts: Scripts) -> None:
    asks = "from alembic import context\nassert context.is_offline_mode()\nop.execute('SELECT 3')"
    revision(scripts.folder, "three", "two", asks)
    directory = ScriptDirectory(scripts.folder)
    [move] = moves(directory, "up", "head", ("two",), state.compare(("two",), directory, scripts))

    with EnvironmentContext(Config(), directory) as run:
        context = MigrationContext.configure(dialect_name="postgresql")
        sql = offline.sql(run, context, move.migration_fn)
        assert not run.is_offline_mode()

    assert sql is not None
    assert "SELECT 3;" in sql


def test_env_py_is_found_and_run(scripts: Scripts) -> None:
    env = scripts.folder / "env.py"
    env.write_text("from alembic import context\ncontext.configure('ours', compare_type=True)\n")
    directory = ScriptDirectory(scripts.folder)
    context: Any = EnvironmentContext(Config(), directory)
    calls: list[tuple[Any, ...]] = []
    context.configure = lambda *args, **options: calls.append((*args, options))

    with context:
        directory.run_env()

    assert directory.env_py_location == str(env)
    assert calls == [("ours", {"compare_type": True})]


@pytest.mark.parametrize("options", [{"dont_mutate": True}, {}])
def test_a_look_makes_no_version_table(options: dict[str, bool]) -> None:
    looks: list[Any] = []

    def look(heads: Any, context: MigrationContext) -> list[Any]:
        looks.append(heads)
        return []

    with create_engine("sqlite://").connect() as connection:
        MigrationContext.configure(connection, opts={"fn": look, **options}).run_migrations()
        assert inspect(connection).get_table_names() == ([] if options else ["alembic_version"])
    assert looks == [()]


def test_an_error_without_a_statement_is_of_the_connection(scripts: Scripts) -> None:
    def connect() -> Any:
        raise psycopg2.OperationalError("no route")

    engine = create_engine("postgresql+psycopg2://", creator=connect)
    refusal = pytest.raises(Unreachable, match="cannot connect: no route")
    with refusal, Translation(scripts).applied():
        engine.connect()

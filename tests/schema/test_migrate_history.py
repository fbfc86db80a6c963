"""migrate.history, merge and stamp, and the exit code of status: what a pipeline asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from servers import Cluster
from shops import Shop, two_revisions

from migrations import revision
from pgtasks.errors import NotProven, Refused
from pgtasks.schema import migrate
from pgtasks.settings.target import Target


@pytest.fixture
def shop(cluster: Cluster, target: Target, project: Path) -> Shop:
    return two_revisions(cluster, target, project)


def test_status_says_by_its_exit_code_whether_the_database_is_at_the_head(
    inv: Any, shop: Shop
) -> None:
    assert inv("migrate.status").returncode == 0
    failed = inv("migrate.status", "--check", "--json")
    assert failed.returncode == 5
    document = json.loads(failed.stdout)
    assert document["exit_code"] == 5
    assert document["state"] == "unversioned"
    assert "inv migrate.up applies what is pending" in document["error"]

    shop.up("one")
    with pytest.raises(NotProven, match=r"behind 1: at one, head is two"):
        shop.status().check()
    shop.up()
    assert inv("migrate.status", "--check").returncode == 0

    for name in ("east", "west"):
        revision(shop.folder, name, "two", "pass")
    with pytest.raises(NotProven, match=r"diverged: .*: inv migrate.merge joins them"):
        shop.status().check()
    for name in ("two", "east", "west"):
        (shop.folder / "versions" / f"{name}.py").unlink()
    with pytest.raises(NotProven, match=r"ahead: .*are these files older"):
        shop.status().check()


def test_history_tells_what_is_applied_and_where_branches_meet(inv: Any, shop: Shop) -> None:
    shop.up("one")
    revision(shop.folder, "east", "one", "pass")
    (shop.folder / "env.py").write_text("raise SystemExit('history runs no env.py')")

    entries = json.loads(inv("migrate.history", "--json").stdout)["revisions"]

    marks = {each["id"]: (each["applied"], each["current"], each["head"]) for each in entries}
    assert marks == {
        "one": (True, True, False),
        "two": (False, False, True),
        "east": (False, False, True),
    }
    lines = inv("migrate.history").stdout.splitlines()
    assert lines[0].split() == ["database", "revision", "message", "note"]
    assert "applied   one       revision one   current" in lines
    joined = migrate.merge(shop.scripts, "")
    assert joined.revision.message == "merge east and two"
    again = migrate.history(shop.scripts, shop.target)
    assert again.entries[0].row()[3] == "head, joins east, two"
    assert (again.state.word, len(again.state.pending)) == ("behind", 3)


def test_history_of_a_database_that_is_ahead(shop: Shop) -> None:
    shop.up()
    (shop.folder / "versions" / "two.py").unlink()
    entry = migrate.history(shop.scripts, shop.target).entries[0]
    assert (entry.revision.id, entry.applied) == ("one", None)
    assert entry.row()[0] == "not known"


def test_two_heads_are_refused_and_a_merge_is_the_way_out(inv: Any, shop: Shop) -> None:
    shop.up()
    with pytest.raises(Refused, match="one head, two: there is nothing to join"):
        migrate.merge(shop.scripts, "")
    for name in ("east", "west"):
        revision(shop.folder, name, "two", f"op.execute('CREATE TABLE {name} ()')")
    for words in (("migrate.up",), ("migrate.new", "-m", "more", "--empty")):
        refused = inv(*words)
        assert refused.returncode == 2
        assert "inv migrate.merge joins them" in refused.stderr.splitlines()[-1]

    merged = json.loads(inv("migrate.merge", "-m", "both ways", "--json").stdout)

    assert merged["joins"] == ["east", "west"]
    assert "down_revision = ('east', 'west')" in (shop.root / merged["file"]).read_text()
    shop.up()
    assert shop.status().current == (merged["revision"],)
    assert {"east", "west"} <= set(shop.tables())


def test_stamp_writes_the_version_table_and_nothing_else(inv: Any, shop: Shop) -> None:
    dry = inv("migrate.stamp", "head", "--dry").stdout.splitlines()
    assert dry[0] == "counts as applied, and does not run: one revision one"
    assert dry[-1] == ("would write the version table alone, no migration runs: no revision -> two")
    assert shop.tables() == []

    done = inv("migrate.stamp", "head")

    assert "warning: the database is empty, and the version table makes no tables" in done.stderr
    assert "counts as applied, and does not run: two revision two" in done.stderr
    assert shop.tables() == ["alembic_version"]
    assert shop.status().current == ("two",)
    again = inv("migrate.stamp", "two", "--json")
    assert json.loads(again.stdout) == {
        "from": ["two"],
        "to": ["two"],
        "skipped": [],
        "undone": [],
        "done": False,
    }
    back = inv("migrate.stamp", "base")
    assert "counts as pending, and is not undone: two revision two" in back.stderr
    assert shop.status().word == "unversioned"


def test_stamp_is_guarded(inv: Any, shop: Shop) -> None:
    with (shop.root / "env" / "dev.yaml").open("a") as file:
        file.write("protected: true\n")
    refused = inv("migrate.stamp", "one")
    assert refused.returncode == 2
    assert f"--confirm {shop.target.database}" in refused.stderr
    assert shop.tables() == []
    assert inv("migrate.stamp", "one", "--confirm", shop.target.database).returncode == 0
    assert shop.status().current == ("one",)


def test_stamp_of_a_database_that_is_ahead_needs_purge(inv: Any, shop: Shop) -> None:
    shop.up()
    (shop.folder / "versions" / "two.py").unlink()
    refused = inv("migrate.stamp", "one")
    assert refused.returncode == 2
    assert "--purge forgets its revisions first" in refused.stderr
    assert inv("migrate.stamp", "one", "--purge").returncode == 0
    assert shop.status().current == ("one",)


@pytest.mark.parametrize(
    ("to", "words"), [("nine", "no revision 'nine'"), ("head", "migrate.merge")]
)
def test_a_stamp_that_cannot_be_meant(shop: Shop, to: str, words: str) -> None:
    for name in ("east", "west"):
        revision(shop.folder, name, "two", "pass")
    with pytest.raises(Refused, match=words):
        migrate.stamp_plan(*shop.place, to)


def test_a_database_that_moved_since_the_stamp_was_planned(shop: Shop) -> None:
    planned = migrate.stamp_plan(*shop.place, "head")
    shop.up("one")
    with pytest.raises(Refused, match="another run moved the database meanwhile"):
        migrate.stamp(*shop.place, "head", planned)
    assert shop.status().current == ("one",)

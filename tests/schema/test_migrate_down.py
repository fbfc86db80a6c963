"""migrate.down: what is lost, the backup that is taken, and the one that is offered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from restores import newest
from servers import Cluster
from shops import Shop, two_revisions

from migrations import revision
from pgtasks.settings.target import Target


@pytest.fixture
def shop(cluster: Cluster, target: Target, project: Path) -> Shop:
    return two_revisions(cluster, target, project)


def test_a_downgrade_takes_a_backup_and_offers_the_one_that_has_what_is_lost(
    inv: Any, shop: Shop
) -> None:
    shop.up("one")
    shop.cluster.execute("INSERT INTO notes VALUES (1, 'a')", shop.target.database)
    text = "op.execute('ALTER TABLE notes DROP COLUMN text')"
    revision(shop.folder, "three", "two", text, "pass")
    assert inv("migrate.up").returncode == 0
    before = Path(newest(shop.root)).name

    dry = inv("migrate.down", "--steps", "2", "--dry", "--json")
    plan = json.loads(dry.stdout)
    assert plan["earlier_backup"]["id"] == before
    assert [each["losses"] for each in plan["steps"]] == [
        ["its downgrade does nothing"],
        ["drops table tags (empty)"],
    ]
    assert [each["loses_rows"] for each in plan["steps"]] == [False, False]

    done = inv("migrate.down", "--steps", "2")

    assert done.returncode == 0, done.stderr
    assert "  its downgrade does nothing" in done.stderr.splitlines()
    offer = next(line for line in done.stderr.splitlines() if line.startswith("instead: "))
    assert offer.startswith("instead: the database at one as it was ")
    assert offer.endswith(f" ago, without the rows written since: inv db.restore --backup {before}")
    assert shop.status().current == ("one",)
    # it is offered and not restored
    columns = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'notes'::regclass AND attnum > 0"
    assert shop.cluster.value(f"{columns} AND NOT attisdropped", shop.target.database) == 1
    own = json.loads((Path(newest(shop.root)) / "manifest.json").read_text())
    assert own["note"] == "before migrate.down: three -> one"
    assert own["revision"] == "three"

    restored = inv("db.restore", "--backup", before)
    assert restored.returncode == 0, restored.stderr
    rows = shop.cluster.execute("SELECT id, text FROM notes", shop.target.database)
    assert [tuple(row) for row in rows] == [(1, "a")]


def test_the_backup_of_a_downgrade_is_not_optional_where_it_is_protected(
    inv: Any, shop: Shop
) -> None:
    shop.up()
    with (shop.root / "env" / "dev.yaml").open("a") as file:
        file.write("protected: true\n")
    name = shop.target.database
    refused = inv("migrate.down", "--no-backup", "--confirm", name)
    assert refused.returncode == 2
    assert "--no-backup: environment 'dev' is protected" in refused.stderr
    assert shop.status().current == ("two",)


def test_a_downgrade_that_fails_says_what_was_taken_back(inv: Any, shop: Shop) -> None:
    revision(shop.folder, "three", "two", "pass", "op.execute('SELECT 1/0')")
    shop.up()
    failed = inv("migrate.down", "--json")
    document = json.loads(failed.stdout)
    assert failed.returncode == 1
    assert (document["applied"], document["not_applied"]) == ([], ["three"])
    assert document["backup"] == Path(newest(shop.root)).name
    assert "not taken back: three" in document["hint"]
    assert shop.status().current == ("three",)

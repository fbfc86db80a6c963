"""`backup.diff`: what changed since a backup, or between two."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Inv
from servers import Cluster

from pgtasks.backup.format import manifest
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.local import LocalStore
from pgtasks.errors import Refused
from pgtasks.schema.inspect.diff.perform import Options, backups

_SHOP = """
CREATE SCHEMA other;
CREATE TABLE public.bill (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, paid bool);
CREATE TABLE other.bill (id int, "it's 🙂" text);
INSERT INTO public.bill (paid) SELECT n % 2 = 0 FROM generate_series(1, 10) n;
INSERT INTO other.bill VALUES (1, 'a'), (2, 'b');
"""
_LATER = """
DELETE FROM public.bill WHERE id > 7;
UPDATE other.bill SET "it's 🙂" = 'c' WHERE id = 2;
CREATE VIEW public.paid AS SELECT id FROM public.bill WHERE paid;
ALTER TABLE other.bill ADD CONSTRAINT positive CHECK (id > 0);
"""
_EXPECTED = {
    "table other.bill",
    "view public.paid",
    "rows of table public.bill",
    "rows of table other.bill",
}


def _made(inv: Inv, *flags: str) -> str:
    done = inv("db.backup", "--json", *flags)
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["id"])


def _names(done: Any) -> set[str]:
    return {each["name"] for each in json.loads(done.stdout)["differences"]}


def test_what_changed(project: Path, inv: Inv, cluster: Cluster, database: str) -> None:
    cluster.psql(database, _SHOP)
    first = _made(inv)
    same = inv("backup.diff", "latest")
    assert same.returncode == 0, (same.stdout, same.stderr)
    assert f"no difference between {first} and dev" in same.stdout
    cluster.psql(database, _LATER)

    since = inv("backup.diff", first)
    assert since.returncode == 5
    assert since.stderr.endswith(f"error: 4 differences between {first} and dev\n")
    assert f"10 in {first}, 7 in dev" in since.stdout
    assert "2 rows in both, whose content differs" in since.stdout
    assert _names(inv("backup.diff", first, "--json")) == _EXPECTED

    second = _made(inv)
    cluster.psql(database, "DROP TABLE other.bill, public.bill CASCADE")  # is not looked at
    between = inv("backup.diff", first, "--against", "latest", "--json")
    assert between.returncode == 5
    assert _names(between) == _EXPECTED
    assert json.loads(between.stdout)["right"] == second
    schema = inv("backup.diff", first, "--against", second, "--no-rows", "--text")
    assert "table other.bill" in schema.stdout
    assert "rows of table" not in schema.stdout

    itself = inv("backup.diff", first, "--against", first)
    assert itself.returncode == 2
    assert f"backup {first!r} is compared with itself" in itself.stderr
    unknown = inv("backup.diff", first, "--against", "1999")
    assert unknown.returncode == 2
    assert "unknown backup '1999'" in unknown.stderr


def test_a_part_of_the_rows_and_none(
    project: Path, inv: Inv, cluster: Cluster, database: str
) -> None:
    cluster.psql(database, _SHOP)
    first = _made(inv, "--no-proof")
    second = _made(inv)
    done = inv("backup.diff", first, "--against", second)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "rows: a side has no proof of all its rows" in " ".join(done.stdout.split())


def _opened(folder: Path) -> Backup:
    return LocalStore(folder.parent).find("dev", "shop", str(folder))


def test_proofs_of_two_kinds(project: Path, inv: Inv, cluster: Cluster, database: str) -> None:
    """Fingerprints of two formats say nothing about each other; numbers of rows do."""
    cluster.psql(database, _SHOP)
    _made(inv)
    cluster.psql(database, _LATER)
    _made(inv)
    home = project / "backups" / "dev" / database
    newer, older = sorted(home.iterdir(), reverse=True)[:2]
    proof = (older / "proof.json").read_text()
    changed = proof.replace('"format": 2', '"format": 1')
    assert changed != proof
    (older / "proof.json").write_text(changed)
    made = _opened(older).manifest
    record = replace(made.files["proof.json"], sha256=hashlib.sha256(changed.encode()).hexdigest())
    text = manifest.text(replace(made, files={**made.files, "proof.json": record}))
    (older / manifest.NAME).write_text(text)
    diff = backups(_opened(older), _opened(newer), Options(rows=True))
    names = {each.name for each in diff.changes}
    assert names == _EXPECTED - {"rows of table other.bill"}
    assert any("fingerprints of two kinds" in words for words in diff.skipped)
    shutil.copytree(newer, home / "copy")
    with pytest.raises(Refused, match="with itself"):
        backups(_opened(newer), _opened(home / "copy"), Options())

"""inv mask.suggest, mask.check, mask.preview: what they say of rules that are not complete."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from projects import put_stamp
from servers import Cluster
from terminal import answer

INV = Path(sys.executable).with_name("inv")

TABLES = """
CREATE TABLE people (
  id int PRIMARY KEY, name text NOT NULL, reach text, kind text, code text UNIQUE, more jsonb,
  "Odd's" inet, picture bytea NOT NULL);
INSERT INTO people SELECT i, 'Erika Muster', 'e' || i || '@clinic.test', 'k' || i % 3, 'c' || i
  FROM generate_series(1, 300) i;
COMMENT ON TABLE people IS 'first was e1@clinic.test';
CREATE VIEW first AS SELECT * FROM people WHERE reach = 'e1@clinic.test';
CREATE FUNCTION who() RETURNS text LANGUAGE sql AS 'SELECT ''e2@clinic.test''';
""".replace("'c' || i\n", "'c' || i, NULL, NULL, ''\n")
RULES = {
    "public.people.name": "name",
    "public.people.reach": "email",
    "public.people.code": "hash",
    "public.people.*": "plain",
}


@pytest.fixture
def asked(cluster: Cluster, database: str, project: Path, inv: Callable[..., Any]) -> Any:
    """Return what writes rules of dev and runs a task."""
    cluster.execute(TABLES, database)
    put_stamp(cluster.target(database))
    file = project / "env" / "dev.yaml"
    first = file.read_text(encoding="utf-8") if file.exists() else ""
    (project / "env" / "dev.env").write_text(
        "MASK_KEY=of-many-letters-and-more\n", encoding="utf-8"
    )

    def ask(chosen: dict[str, str], *words: str) -> Any:
        block = json.dumps({"mask": chosen})[1:-1]
        file.write_text(f"{first}\n{block}\n" if chosen else first, encoding="utf-8")
        return inv(*words)

    return ask


def test_suggestions_say_why_and_can_be_pasted(asked: Callable[..., Any]) -> None:
    done = asked({}, "mask.suggest")
    assert done.returncode == 0, done.stderr
    lines = [line.split("  # ") for line in done.stdout.splitlines()[1:]]
    said = {rule.strip().partition(": ")[0]: why for rule, why in lines}
    assert said["public.people.reach"] == "300 of 300 values look like addresses"
    assert said["public.people.name"] == "300 of 300 values look like names"
    assert said["public.people.kind"] == "3 distinct values among 300"
    assert said["public.people.code"] == "its values are distinct"
    pasted = yaml.safe_load(done.stdout)["mask"]
    assert pasted == {
        "public.people.id": "plain",
        "public.people.name": "name",
        "public.people.reach": "email",
        "public.people.kind": "plain",
        "public.people.code": "hash",
        "public.people.more": "null",
        'public.people."Odd\'s"': "ip",
        "public.people.picture": "hash",
    }
    again = asked(pasted, "mask.suggest")
    assert again.stdout == "all columns are decided\n"
    checked = asked(pasted, "mask.check", "--json")
    assert checked.returncode == 1, checked.stdout
    assert json.loads(checked.stdout)["undecided"] == []


def test_long_texts_that_begin_alike_are_no_words_of_a_list(
    cluster: Cluster, database: str, asked: Callable[..., Any]
) -> None:
    cluster.execute(
        "CREATE TABLE sent (id int PRIMARY KEY, body text); INSERT INTO sent"
        " SELECT i, repeat('Dear Sir or Madam, ', 15) || 'patient ' || i"
        " FROM generate_series(1, 300) i",
        database,
    )
    suggested = asked({}, "mask.suggest").stdout
    (line,) = (line for line in suggested.splitlines() if "sent.body" in line)
    assert line.split("  #")[0].split() == ["public.sent.body:", "text"]


def test_definitions_with_masked_values_leak(asked: Callable[..., Any]) -> None:
    done = asked(RULES, "mask.check")
    assert done.returncode == 1
    leaks = sorted(done.stdout.splitlines()[1:])
    words = "its definition contains a value of public.people.reach"
    assert leaks == [
        f"comment TABLE people: {words}",
        f"function who(): {words}",
        f"view first: {words}",
    ]
    assert "masks do not cover 3 things of the source" in done.stderr


def test_large_objects_and_real_values_of_others_leak(
    asked: Callable[..., Any], cluster: Cluster, database: str
) -> None:
    cluster.execute(
        "DROP VIEW first; DROP FUNCTION who(); COMMENT ON TABLE people IS NULL;"
        "SELECT lo_from_bytea(0, 'x')",
        database,
    )
    done = asked({**RULES, "public.people.kind": "left(name, 1) || kind"}, "mask.check")
    assert done.returncode == 1
    assert "large objects: 1 large object" in done.stdout
    assert (
        "public.people.kind: its mask reads name, which is masked itself, as it is" in done.stdout
    )


def test_a_preview_is_for_a_terminal_only(asked: Callable[..., Any], project: Path) -> None:
    refused = asked(RULES, "mask.preview", "people")
    assert refused.returncode == 2
    assert "on a terminal only" in refused.stderr
    assert "Erika" not in refused.stdout + refused.stderr
    done = answer([INV, "mask.preview", "people"], [], cwd=project, columns=200)
    assert done.code == 0, done.screen
    assert done.screen.count("Erika Muster") == 10
    assert "@example.com" in done.screen
    with (project / "out").open("wb") as out:
        done = answer([INV, "mask.preview", "people"], [], cwd=project, stdout=out.fileno())
    assert done.code == 2
    assert (project / "out").read_bytes() == b""

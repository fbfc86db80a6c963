"""The guard's truth table: each fact that it rests on, against every other."""

from __future__ import annotations

import itertools
import subprocess
from dataclasses import dataclass
from typing import Any

import pytest

from pgtasks.errors import Refused
from pgtasks.server.guard import Access, Decision, Evidence, decide, protection
from pgtasks.server.identity import Identity
from pgtasks.server.stamp import Stamp

GO, TYPE, ASK = Decision.GO, Decision.TYPE_NAME, Decision.ASK
READ, WRITE, DESTROY, STAMP = Access.READ, Access.WRITE, Access.DESTROY, Access.STAMP
NAME = "shop_dev"
STAMPS = {
    "none": None,
    "own": Stamp("dev", NAME, "7"),
    "other": Stamp("prod", NAME, "7"),
    "moved": Stamp("dev", NAME, "8"),  # to another server
    "renamed": Stamp("dev", "shop", "7"),
}
CONFIRMS = {"none": None, "right": NAME, "wrong": "shop"}


def identity(stamp: str, *, empty: bool, database: str = NAME) -> Identity:
    return Identity(database, "7", "alice", "", STAMPS[stamp], empty)


def facts(access: Access, found: Identity | None, **others: Any) -> Evidence:
    return Evidence(
        **{
            "access": access,
            "environment": "dev",
            "database": NAME,
            "protected": False,
            "identity": found,
            "terminal": False,
            **others,
        }
    )


def outcome(given: Evidence) -> Decision | str:
    try:
        return decide(given)
    except Refused as exc:
        return f"refused: {exc.message}"


@dataclass(frozen=True)
class Row:
    """One state of the world, all else being whatever it is."""

    access: Access
    content: str  # absent, empty, full
    stamp: str
    protected: bool
    terminal: bool
    confirm: str
    yes: bool

    def facts(self) -> Evidence:
        found = None
        if self.content != "absent":
            found = identity(self.stamp, empty=self.content == "empty")
        return facts(
            self.access,
            found,
            protected=self.protected,
            terminal=self.terminal,
            confirm=CONFIRMS[self.confirm],
            yes=self.yes,
        )

    def expected(self) -> Decision | None:
        """Return what the design says, None for a refusal; written independently of the guard."""
        stamp = "none" if self.content == "absent" else self.stamp
        contradicted = stamp in ("other", "moved", "renamed")
        if contradicted and self.access is not STAMP:
            return None
        if self.access is READ:
            return GO
        if self.confirm == "wrong":
            return None
        unlabelled = self.content == "full" and stamp == "none"
        if self.protected or unlabelled or contradicted:
            return GO if self.confirm == "right" else TYPE if self.terminal else None
        if self.access in (DESTROY, Access.DISCARD) and not self.yes and self.confirm == "none":
            return ASK if self.terminal else None
        return GO


TABLE = [
    Row(*row)
    for row in itertools.product(
        Access,
        ("absent", "empty", "full"),
        STAMPS,
        (False, True),
        (False, True),
        CONFIRMS,
        (False, True),
    )
]


def test_the_whole_table() -> None:
    assert len(TABLE) == 5 * 3 * 5 * 2 * 2 * 3 * 2
    wrong = []
    for row in TABLE:
        found = outcome(row.facts())
        decided = found if isinstance(found, Decision) else None
        if decided is not row.expected():
            wrong.append((row, found))
    assert not wrong


def rows(**given: Any) -> list[Row]:
    found = [
        row for row in TABLE if all(getattr(row, key) == value for key, value in given.items())
    ]
    assert found
    return found


# What must hold whatever else is true, said once more without the table's own reasoning.


def test_nothing_but_the_name_opens_what_is_protected() -> None:
    for row in rows(protected=True):
        if row.access is not READ and row.confirm != "right":
            assert outcome(row.facts()) is not GO


def test_yes_never_opens_what_is_protected() -> None:
    for row in rows(protected=True, yes=True, confirm="none"):
        if row.access is not READ:
            assert outcome(row.facts()) is not GO


def test_content_without_a_stamp_is_protected() -> None:
    for row in rows(protected=False, content="full", stamp="none", confirm="none"):
        if row.access is not READ:
            assert outcome(row.facts()) is not GO


@pytest.mark.parametrize("stamp", ["other", "moved", "renamed"])
def test_a_stamp_that_contradicts_stops_even_reading(stamp: str) -> None:
    for content in ("empty", "full"):
        for row in rows(stamp=stamp, content=content):
            if row.access is not STAMP:
                assert str(outcome(row.facts())).startswith("refused")


@pytest.mark.parametrize("stamp", ["other", "moved", "renamed"])
def test_a_contradicting_stamp_is_replaced_only_by_name(stamp: str) -> None:
    for row in rows(access=STAMP, stamp=stamp, content="full", protected=False):
        assert (outcome(row.facts()) is GO) == (row.confirm == "right")


def test_without_a_terminal_nothing_is_asked() -> None:
    for row in rows(terminal=False):
        assert outcome(row.facts()) not in (TYPE, ASK)


def test_a_wrong_name_is_refused_wherever_a_name_counts() -> None:
    for row in rows(confirm="wrong"):
        if row.access is not READ:
            assert str(outcome(row.facts())).startswith("refused")


def test_a_database_that_is_not_there_can_be_made() -> None:
    assert outcome(facts(WRITE, None)) is GO
    assert outcome(facts(WRITE, None, protected=True, terminal=True)) is TYPE


# --- words ---


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            facts(WRITE, identity("own", empty=False), protected=True),
            "environment 'dev' is protected, add --confirm shop_dev",
        ),
        (
            facts(WRITE, identity("none", empty=False)),
            "database 'shop_dev' has content and no stamp, so it counts as protected, "
            "add --confirm shop_dev",
        ),
        (
            facts(WRITE, identity("other", empty=False)),
            "database 'shop_dev' is stamped 'prod', the chosen environment is 'dev': "
            "choose that one, or if it is 'dev' now, run inv env.stamp",
        ),
        (
            facts(READ, identity("moved", empty=False)),
            "the stamp in 'shop_dev' (server 7) belongs to database 'shop_dev' on server 8, "
            "environment 'dev': if it is 'dev' now, run inv env.stamp",
        ),
        (
            facts(READ, identity("own", empty=False, database="pooled")),
            "the connection is in database 'pooled', expected 'shop_dev': is a pooler in between?",
        ),
        (
            facts(WRITE, identity("own", empty=False), confirm="Shop_dev"),
            "--confirm 'Shop_dev' is not the database's name, expected 'shop_dev'",
        ),
        (
            facts(DESTROY, identity("own", empty=False)),
            "this cannot be undone and there is no terminal to ask on, "
            "add --yes or --confirm shop_dev",
        ),
    ],
)
def test_a_refusal_names_the_facts_and_the_way_out(given: Evidence, message: str) -> None:
    assert outcome(given) == f"refused: {message}"


def test_a_name_that_a_shell_would_split_is_quoted() -> None:
    odd = "my 'shop'; rm"
    found = Identity(odd, "7", "a", "", None, False)
    text = str(outcome(facts(WRITE, found, database=odd)))
    assert """--confirm 'my '"'"'shop'"'"'; rm'""" in text


@pytest.mark.parametrize("name", ["a\x1b[2J'b", "two\nlines\\", "right\u202eleft ", "\x07é😀"])
def test_a_name_that_a_terminal_would_obey_is_a_word_of_bash(name: str) -> None:
    text = str(outcome(facts(WRITE, Identity(name, "7", "a", "", None, False), database=name)))
    word = text.partition("--confirm ")[2]
    assert word.isprintable()
    printed = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True)
    assert printed.stdout.decode() == name


def test_protection_says_why() -> None:
    assert protection(facts(READ, identity("own", empty=False))) == ""
    assert "protected" in protection(facts(READ, None, protected=True))
    assert "no stamp" in protection(facts(READ, identity("none", empty=False)))
    assert protection(facts(READ, identity("none", empty=True))) == ""

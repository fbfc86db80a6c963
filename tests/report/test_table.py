from __future__ import annotations

import pytest

from pgtasks import report


def test_table_aligns_and_flushes_numbers_right() -> None:
    rows = [("alpha", 5, True, None), ("b", 812_004, False, 7)]
    assert report.table(("name", "rows", "ok", "old"), rows).splitlines() == [
        "name      rows  ok     old",
        "-----  -------  -----  ---",
        "alpha        5  True     -",
        "b      812,004  False    7",
    ]


def test_table_of_nothing_has_its_headings() -> None:
    assert report.table(("a", "b"), []) == "a  b\n-  -"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b 'c' ü 🐘", "a b 'c' ü 🐘"),
        ("two\nlines\t", "two\\nlines\\t"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u202eevil", "\\u202eevil"),
        ("\udcff", "\\udcff"),
    ],
)
def test_names_in_a_table_keep_to_their_line(text: str, shown: str) -> None:
    assert report.table(("a",), [(text,)]).splitlines()[2:] == [shown]


def test_a_table_is_no_wider_than_it_may_be() -> None:
    rows = [("20260131T020003Z-5f1c", "", "-", 12, "long " * 40), ("b", "", None, 1234567, "x")]
    text = report.table(("backup", "empty", "none", "rows", "note"), rows, width=60)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[0].split() == ["backup", "rows", "note"]
    assert "20260131T020003Z-5f1c" in lines[2]
    assert lines[2].endswith("…")
    assert report.table(("a", "b"), [("x" * 100, "y" * 100)], width=0).count("x") == 100


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_a_line_of_a_list_hangs(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "用户 gets into 'postgres', as " + "pg_hba.conf says " * 6 + "inv db.check --env 'the shop'"
    )
    assert report.hanging("ok      login     ", text) == f"ok      login     {text}"
    monkeypatch.setenv("PGTASKS_WIDTH", str(columns))
    lines = report.hanging("ok      login     ", text).splitlines()
    if columns == 40:  # no room beside it
        assert lines == [f"ok      login     {text}"]
    else:
        assert lines[0].startswith("ok      login     用户 gets into")
        assert {line[:18] for line in lines[1:]} == {" " * 18}
        assert " ".join(line[18:] for line in lines) == text
        assert max(map(len, lines)) <= columns
        assert "inv db.check --env 'the shop'" in lines[-1]


ID = "20260131T020003Z-5f1c"
WHEN = "2026-01-31T02:00:03Z"


@pytest.mark.parametrize("width", range(10, 130, 7))
def test_an_id_and_a_time_are_never_cut(width: int) -> None:
    headings = ("backup", "size", "rows", "proven", "note")
    rows = [(ID, "1.2 MB", 1234567, WHEN, "long " * 40), (ID, "1.2 MB", 1, None, "x")]
    text = report.table(
        headings, rows, width=width, whole=("backup", "proven"), gives=("note", "rows")
    )
    assert (text.count(ID), text.count(WHEN)) == (2, 1)
    table = not text.startswith("backup  20260131")
    assert table is (width >= len(ID) + len(WHEN) + len("1.2 MB") + 2 * 2)
    if table:
        assert max(map(len, text.splitlines())) <= max(width, 24)
        assert ("no room for: note" in text) is ("note" not in text.splitlines()[0])
    else:
        assert "size    1.2 MB\n" in text


def test_what_runs_on_is_whole_and_in_its_column() -> None:
    statement = "may not create databases (ALTER ROLE shop CREATEDB)" * 3
    rows = [("role", "note", statement), ("server", "ok", "PostgreSQL 16")]
    for width in (60, 80):
        lines = report.table(("what", "", "found"), rows, width=width, runs_on=True).splitlines()
        assert max(map(len, lines)) <= width
        assert lines[2].startswith("role    note  may not")
        assert lines[-1].startswith("server  ok    PostgreSQL")
        folded = [lines[2][:14].replace("role    note", " " * 12), *(it[:14] for it in lines[3:-1])]
        assert set(folded) == {" " * 14}
        assert " ".join(line[14:] for line in lines[2:-1]) == statement
    assert statement in report.table(("what", "", "found"), rows, width=20, runs_on=True)


@pytest.mark.parametrize(
    "command",
    [
        "inv db.recover --env prod-eu",
        "inv -r '/srv/the shop' -c dbtasks db.restore --backup 20260131T020003Z-5f1c --env test",
        "inv db.run --sql 'SELECT 1, 2' --dry",
    ],
)
def test_no_command_in_a_table_is_broken(command: str) -> None:
    rows = [("left", "note", f"a database that a restore left behind: {command} drops it")]
    for width in range(60, 120, 5):
        lines = report.table(("what", "", "found"), rows, width=width, runs_on=True).splitlines()
        assert [line.count(command) for line in lines].count(1) == 1
        assert all(len(line) <= width for line in lines if command not in line)


@pytest.mark.parametrize("width", range(40, 130, 6))
def test_what_identifies_a_row_is_cut_after_prose_and_after_what_gives(width: int) -> None:
    name = "a_constraint_with_a_long_name"
    rows = [(name, "other", "word " * 60, "prose " * 60), ("b", "x", "y", "z")]
    headings = ("name", "given", "value", "text")
    text = report.table(headings, rows, width=width, prose=("text",), gives=("given",))
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert lines[2].startswith(f"{name}  ") is (width >= len(name) + 8 + 8 + 2 * 2)
    if "given" in lines[0]:
        assert "other" in lines[2]
    else:
        assert lines[-1] == "no room for: given"
    wide = report.table(headings, rows, width=200, prose=("text",)).splitlines()[2]
    assert (wide.count("word"), wide.count("prose")) == (27, 4)


def test_prose_folds_beside_other_columns() -> None:
    rows = [("key_of_the_row", "a" * 50 + " and more words", "last " * 20)]
    headings = ("key", "rows", "new rows")
    lines = report.table(headings, rows, width=80, prose=("rows",), runs_on=True).splitlines()
    assert max(map(len, lines)) <= 80
    place = lines[0].index("new rows")
    assert "".join(line[16:place].strip() for line in lines[2:]).replace(" ", "") == (
        "a" * 50 + "andmorewords"
    )
    assert sum(line[place:].count("last") for line in lines[2:]) == 20

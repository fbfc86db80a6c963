"""SQL taken apart by PostgreSQL's own parser."""

from __future__ import annotations

import pytest
from postgast import pg_query_pb2 as pb

from pgtasks.schema.migrate.losses import losses
from pgtasks.schema.trigger import expected
from pgtasks.schema.trigger.files import SqlFile
from pgtasks.server import parser

DEEP = " || ".join(["a"] * 200)


def test_statements_begin_at_their_character() -> None:
    sql = "-- ü\nSELECT 'ü🐘';\n\n/* ; */ DROP TABLE ü ; ;"

    first, second = parser.parse(sql)

    assert (first.text, second.text) == ("SELECT 'ü🐘'", "DROP TABLE ü ")
    assert [sql[each.start :].startswith(each.text) for each in (first, second)] == [True, True]
    assert (type(first.node), type(second.node)) == (pb.SelectStmt, pb.DropStmt)


@pytest.mark.parametrize(
    ("sql", "position"),
    [("SELECT 'ü';\nSELEC 1", 12), ("SELECT 'ü' (\n", 11), ("SELECT (", 8), ("SELECT 1;\0", 9)],
)
def test_a_fault_is_found_at_its_character(sql: str, position: int) -> None:
    with pytest.raises(parser.SyntaxFault) as caught:
        parser.parse(sql)
    assert caught.value.position == position


def test_a_statement_that_is_too_deep_leaves_the_others_whole() -> None:
    sql = f"DROP TABLE ü; SELECT {DEEP}; DROP TABLE y"

    first, deep, last = parser.parse(sql)

    assert deep.node is None
    assert sql[deep.start :].startswith(f"SELECT {DEEP}")
    assert deep.text == f"SELECT {DEEP}"
    assert isinstance(first.node, pb.DropStmt)
    assert isinstance(last.node, pb.DropStmt)
    assert list(map(str, losses(sql))) == [
        'drops table "ü"',
        "what it drops cannot be told: its SQL is nested too deeply",
        "drops table y",
    ]


def test_a_trigger_that_is_too_deep_is_not_compared() -> None:
    deep = f"CREATE TRIGGER t AFTER UPDATE ON x WHEN ({DEEP} = '') EXECUTE FUNCTION f()"

    read = expected.read([SqlFile("t.sql", f"\n{deep};")])

    assert (read.triggers, read.unknown) == (
        {},
        ["t.sql:2: nested too deeply to be compared"],
    )


@pytest.mark.parametrize(
    ("clause", "condition"),
    [
        ("", ""),
        ("WHEN (new.a > 1)", "new.a > 1"),
        ("when ((new.a) = '(''x' /* ) */ -- )\n) ", "(new.a) = '(''x'"),
        ("WHEN (CASE WHEN new.a THEN b[1] END)", "CASE WHEN new.a THEN b[1] END"),
        ("WHEN (new.a = 'ü'\n'x')", "new.a = 'ü'\n'x'"),
    ],
)
def test_a_condition_is_read_as_it_is_written(clause: str, condition: str) -> None:
    sql = f'CREATE TRIGGER "WHEN" AFTER UPDATE ON ü FOR EACH ROW {clause} EXECUTE FUNCTION f(1)'

    found = parser.condition(sql)

    assert bool(found) == bool(condition)
    if condition:
        assert parser.expression(found).SerializeToString() is not None
        assert found.split() == "\n".join(parser._words(condition)).split()


def test_default_values_are_read_as_they_are_written() -> None:
    sql = """CREATE FUNCTION "(="(a numeric(8, 2), b int = 1, c text DEFAULT 'x, y)' || f(2, 3),
        d int[] default ARRAY[1, 2] -- , e )
        , VARIADIC f text[] = '{}') RETURNS TABLE (g int) LANGUAGE sql AS 'SELECT 1'"""

    assert [found.replace("\n", " ") for found in parser.defaults(sql)] == [
        "1",
        "'x, y)' || f ( 2 , 3 )",
        "ARRAY [ 1 , 2 ]",
        "'{}'",
    ]
    assert parser.defaults("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS ''") == []


def test_expressions_are_separated_where_the_list_is() -> None:
    found = parser.separated("1, f(2, 3), ARRAY[4, 5], 'a, b'::text, (6, 7)")
    assert [text.replace("\n", "") for text in found] == [
        *("1", "f(2,3)", "ARRAY[4,5]", "'a, b'::text", "(6,7)")
    ]
    assert parser.separated("") == []


@pytest.mark.parametrize(
    "sql",
    ["1); SELECT (2", "1) FROM t WHERE (a", "1) AS x, (2", "1) LIMIT (1", "1) UNION SELECT (2"],
)
def test_an_expression_is_nothing_more(sql: str) -> None:
    with pytest.raises(parser.SyntaxFault):
        parser.expression(sql)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("int", "integer"),
        ("character varying(20)", "varchar"),
        ("char(3)", "bpchar"),
        ('"char"', '"char"'),
        ('"order"', '"order"'),
        ("timestamp(3) with time zone", "timestamp with time zone"),
        ("numeric(8, 2)[]", "numeric[]"),
        ("int[3][4]", "integer[][]"),
        ("trigger", "trigger"),
        ('public."Mood"', 'public."Mood"'),
    ],
)
def test_a_type_is_written_as_functions_keep_it(written: str, text: str) -> None:
    node = parser.statement(f"SELECT NULL::{written}")
    assert isinstance(node, pb.SelectStmt)
    assert parser.type_text(node.target_list[0].res_target.val.type_cast.type_name) == text


@pytest.mark.parametrize(
    ("sql", "lost"),
    [
        ('DROP TABLE a, "b c".d CASCADE', ["drops table a cascade", 'drops table "b c".d cascade']),
        ("DROP VIEW v; DROP INDEX i", ["drops view v", "drops index i"]),
        ("DROP CAST (int AS public.mood)", ["drops cast integer.public.mood"]),
        ("DROP FUNCTION f(int), s.g", ["drops function f", "drops function s.g"]),
        ("DROP SCHEMA z", ["drops schema z"]),
        ("DROP TYPE mood", ["drops type mood"]),
        ("ALTER TABLE t DROP COLUMN x, ADD y int", ["drops column t.x"]),
        ("TRUNCATE ONLY t, s.u", ["empties table t", "empties table s.u"]),
        ("DELETE FROM t AS x WHERE true", ["deletes from table t"]),
        ("SELECT 1; UPDATE t SET a = 1; CREATE TABLE a ()", []),
        (
            "DROP BROKEN",
            ["what it drops cannot be told: PostgreSQL's parser does not know its SQL"],
        ),
    ],
)
def test_what_a_statement_takes_away(sql: str, lost: list[str]) -> None:
    assert list(map(str, losses(sql))) == lost

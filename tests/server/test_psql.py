"""SQL files through psql: none leads away from its database, and what is said of them is true."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Callable
from pathlib import Path

import lexing
import pytest
from paths import ROOT
from servers import Cluster
from waiting import PATIENCE

from pgtasks.errors import Failed, Refused
from pgtasks.host.tools import Toolset
from pgtasks.schema.seed.load import Rows, load
from pgtasks.schema.seed.sets import SeedSet
from pgtasks.server.psql import program, script, session
from pgtasks.server.psql.lexer import Lexer
from pgtasks.server.psql.source import Source
from pgtasks.settings.target import Target


def files(folder: Path, **texts: str | bytes) -> list[str]:
    """Write files, and return their names."""
    for name, text in texts.items():
        data = text if isinstance(text, bytes) else text.encode()
        (folder / f"{name}.sql").write_bytes(data)
    return [str(folder / f"{name}.sql") for name in texts]


def refusal(folder: Path, text: str | bytes) -> str:
    """Return why a file is refused, behind its folder's name."""
    with pytest.raises(Refused) as caught:
        script.checked(files(folder, x=text))
    return caught.value.message.removeprefix(f"{folder}/").replace(f"{folder}/", "")


AWAY = r"\connect leads away from the database that was checked"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SELECT 1; \\c shop", f"x.sql:1: {AWAY}"),
        ("SELECT 1 \\g \\\\ \\c shop", f"x.sql:1: {AWAY}"),
        ("\\if true \\\\ \\c shop\n\\endif", f"x.sql:1: {AWAY}"),
        ("\\if true \\c shop \\endif", f"x.sql:1: {AWAY}"),
        ("\\if false\n\\else\n\\connect shop\n\\endif", f"x.sql:3: {AWAY}"),
        ("/* */ \\c shop", f"x.sql:1: {AWAY}"),
        ("/* /* */ */\\c shop", f"x.sql:1: {AWAY}"),
        ("\ufeff\\c shop", f"x.sql:1: {AWAY}"),
        ("\ufeffSELECT 1;\\connect shop", f"x.sql:1: {AWAY}"),
        ("SELECT (1,\n\\c shop\n2);", f"x.sql:2: {AWAY}"),
        ("SELECT $$ a $$\\c shop", f"x.sql:1: {AWAY}"),
        ("SELECT a$$ \\c shop", f"x.sql:1: {AWAY}"),
        ("SELECT E'it\\'s' \\c shop", f"x.sql:1: {AWAY}"),
        ("SELECT 'a\\' \\c shop", f"x.sql:1: {AWAY}"),
        ('SELECT "\\"\\c shop', f"x.sql:1: {AWAY}"),
        ("COPY t FROM stdin;\n\\c\n\\.\n\\c shop", f"x.sql:4: {AWAY}"),
        ("COPY t FROM stdin; \\c shop\n\\.\n", f"x.sql:1: {AWAY}"),
        ("COPY t TO stdout;\n\\c shop", f"x.sql:2: {AWAY}"),
        ("\\set a 1 \\c shop", f"x.sql:1: {AWAY}"),
        ("\\echo 'a' \\c shop", f"x.sql:1: {AWAY}"),
        ('\\c"shop"', 'x.sql:1: \\c"shop" is not among the commands of psql'),
        ("\\! psql shop", "x.sql:1: \\! runs a program of this machine"),
        ("SELECT 1; \\! date", "x.sql:1: \\! runs a program"),
        ("\\!date", "x.sql:1: \\!date is not among"),
        ("\\set x `date`", "x.sql:1: \\set: backquotes run a program"),
        ("\\echo a`date`", "x.sql:1: \\echo: backquotes run a program"),
        ("\\if `false`\n\\endif", "x.sql:1: \\if: backquotes run a program"),
        ("\\restrict a\n\\unrestrict `date`", "x.sql:2: \\unrestrict: backquotes run a program"),
        ("\\unrestrict 'a'", "x.sql:1: \\unrestrict: expected one word"),
        ("\\unrestrict a \\echo b", "x.sql:1: \\unrestrict: expected one word"),
        ("SELECT 1 \\g |date", "x.sql:1: \\g |date: expected a plain file name, no program"),
        ("SELECT 1 \\gx '|date'", "x.sql:1: \\gx '|date': expected a plain file name"),
        ("SELECT 1 \\g (format=csv) |date", "x.sql:1: \\g: expected options and a plain file"),
        ("\\o |cat", "x.sql:1: \\o |cat: expected a plain file name"),
        ("\\o '\\174cat'", "x.sql:1: \\o '\\174cat': expected a plain file name"),
        ("\\set f '|cat'\n\\o :f", "x.sql:2: \\o :f: expected a plain file name"),
        ("\\i :f", "x.sql:1: \\i :f: expected a plain file name"),
        ("\\w |cat", "x.sql:1: \\w writes a statement to a file or a program"),
        ("\\copy t from program 'date'", "x.sql:1: \\copy ... program runs a program"),
        ("\\copy t TO  PROGRAM 'cat'", "x.sql:1: \\copy ... program runs a program"),
        ("\\copy (select 1)to program 'cat'", "x.sql:1: \\copy ... program runs a program"),
        ("\\setenv PGDATABASE shop", "x.sql:1: \\setenv sets a variable for programs"),
        ("\\q", "x.sql:1: \\q ends the file half-way"),
        ("\\watch", "x.sql:1: \\watch repeats a statement without end"),
        ("\\cd /tmp", "x.sql:1: \\cd leaves the folder"),
        ("\\ir nowhere.inc", "x.sql:1: \\ir: file 'nowhere.inc' does not exist"),
        ("\\.", "x.sql:1: \\. stands where no rows of COPY are"),
        (
            "\\set x '\\\\c shop'\n:x",
            "x.sql:2: :x would be read as more than a part of a statement",
        ),
        (":x\n\\set x '''\\\\'\n", "x.sql:1: :x would be read as more"),
        ("\\set x 'COPY t FROM stdin;'\n:x", "x.sql:2: :x would be read as more"),
        ("SELECT :LAST_ERROR_MESSAGE", "x.sql:1: :LAST_ERROR_MESSAGE would be read as more"),
        ("\\set 'ON_ERROR_STOP' off", "x.sql:1: \\set: expected the plain name of a variable"),
        ("\\set SINGLELINE on", "x.sql:1: \\set SINGLELINE: psql would read the file in another"),
        ("\\encoding SJIS", "x.sql:1: \\encoding sjis: convert the file to UTF-8"),
        ("SET client_encoding = 'SJIS';", "x.sql:1: client encoding 'SJIS': a byte of a character"),
        ("SET standard_conforming_strings = off;", "x.sql:1: standard_conforming_strings off"),
        ("SELECT 'open", "x.sql:1: the file ends inside of '"),
        ("SELECT $x$ open", "x.sql:1: the file ends inside of $"),
        ("SELECT 1\n/* open", "x.sql:2: the file ends inside of /*"),
        ("\n\\if true\nSELECT 1;", "x.sql:2: \\if without its \\endif"),
        ("\\else", "x.sql:1: \\else without its \\if"),
        ("\\if false\nCOPY t FROM stdin;\n\\endif\n\\c x\n\\.\n", "x.sql:2: rows of COPY between"),
        ("SELECT 1 \\i y.sql", "x.sql:1: \\i inside of a statement"),
        ("\\echo 'open", "x.sql:1: \\echo: a quote is not closed on its line"),
        (b"SELECT '" + b"a" * 9000 + b"\0';", "x.sql:1: a zero byte"),
    ],
)
def test_what_a_file_may_not_hold(tmp_path: Path, text: str | bytes, words: str) -> None:
    assert refusal(tmp_path, text).startswith(words)


@pytest.mark.parametrize(
    ("text", "touches"),
    [
        ("\\copy t from '/srv/secret'", "copy"),
        ("\\copy (SELECT 'from stdin') to tasks/evil.py", "copy"),
        ("\\copy (SELECT * FROM stdin) to x", "copy"),
        ("\\copy t from stdin-x", "copy"),
        ("\\copy t (a, b) from 'rows.csv' with (format csv)", "copy"),
        ("\\o tasks/evil.py", "o"),
        ("\\out tasks/evil.py", "out"),
        ("SELECT 1 \\g x", "g"),
        ("SELECT 1 \\gx (format=wrapped) x", "gx"),
        ("\\if false\n\\o x\n\\endif", "o"),
        ("\\o", ""),
        ("SELECT 1 \\g", ""),
        ("SELECT 1 \\gx (format=wrapped)", ""),
        ("\\copy t from stdin\n1\n\\.", ""),
        ("\\copy (SELECT 1) to stdout", ""),
        ("\\copy (SELECT ')') TO pstdout with (format csv)", ""),
    ],
)
def test_files_are_touched_only_if_that_is_asked_for(
    tmp_path: Path, text: str, touches: str
) -> None:
    (name,) = files(tmp_path, x=text)
    if touches:
        words = (
            rf":[12]: \\{touches} reads or writes a file of this machine: --touch-files lets it$"
        )
        with pytest.raises(Refused, match=words):
            script.checked([name])
    else:
        script.checked([name])
    script.checked([name], touch_files=True)


def test_what_a_file_includes_may_not_lead_away_either(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "inner.inc").write_text("SELECT 1;\n\\connect postgres\n")
    (tmp_path / "below" / "middle.inc").write_text("\n\\ir ../inner.inc\n")
    assert refusal(tmp_path, "\\ir below/middle.inc\n").startswith(f"below/../inner.inc:2: {AWAY}")
    (tmp_path / "inner.inc").write_text("\\ir x.sql\n")
    assert "more than 16 files within files" in refusal(tmp_path, "\\ir inner.inc\n")
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"SELECT 1;", mtime=0))
    assert "x.sql:1: \\ir: file 'a.gz' is compressed by gzip" in refusal(tmp_path, "\\ir a.gz")


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        (
            "old.sql.gz",
            gzip.compress(b"SELECT 1;", mtime=0),
            "is compressed by gzip, not SQL: gunzip -c ",
        ),
        ("old.dump", b"PGDMP\x01\x0f\x00", "is an archive of pg_dump (custom format), not SQL: "),
        ("old.tar", b"toc.dat\0\0\0", "is an archive of pg_dump (tar format), not SQL: "),
        ("old.sql", "SELECT 1;".encode("utf-16"), "is UTF-16 text, not SQL: iconv -f UTF-16 "),
        ("old.sql", "SELECT 1;".encode("utf-16-le"), "is UTF-16 text without a mark, not SQL"),
        ("old.sql", b"SELECT '\0';", "is binary, not SQL"),
        ("old.sql.zst", b"\x28\xb5\x2f\xfd\0", "is compressed by zstd, not SQL: zstd -dc "),
        ("old.sql.xz", b"\xfd7zXZ\0\0", "is compressed by xz, not SQL: xz -dc "),
    ],
)
def test_what_is_no_sql_is_named(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(Refused) as caught:
        script.checked([str(tmp_path / name)])
    assert words in caught.value.message
    assert "\n" not in caught.value.message


def test_an_archive_in_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "toc.dat").write_bytes(b"PGDMP")
    with pytest.raises(Refused, match=r"is an archive of pg_dump \(directory format\)"):
        script.checked([str(tmp_path)])


def test_the_ways_that_are_named_lead_to_sql(tmp_path: Path) -> None:
    (tmp_path / "it's old.sql.gz").write_bytes(gzip.compress(b"SELECT 1;", mtime=0))
    with pytest.raises(Refused) as caught:
        script.checked([str(tmp_path / "it's old.sql.gz")])
    subprocess.run(["/bin/sh", "-ec", caught.value.message.split("not SQL: ")[1]], check=True)
    assert (tmp_path / "it's old.sql").read_text() == "SELECT 1;"


# what runs, on a server


@pytest.fixture
def run(
    target: Target,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Callable[..., str]:
    """Run a file in a folder that holds what it includes, and return what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(text: str, *, transaction: bool = True, **others: str) -> str:
        files(tmp_path, **others)
        name = files(tmp_path, x=text)[0]
        made = script.checked([name], transaction=transaction, touch_files=True)
        capfd.readouterr()
        sentence = script.run(target, made)
        return sentence + "\n" + capfd.readouterr().out

    return run


T = "CREATE TEMP TABLE t (a text);\n"
ROWS = "\\pset tuples_only on\n\\pset format unaligned\n"


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("SELECT 1;", "1"),
        ("SELECT 1", "1"),
        ("\ufeffSELECT 1;\r\n", "1"),
        ("\\set x 7\nSELECT :x + 1;", "8"),
        ("\\set x 7 \\\\ SELECT :x + 1;", "8"),
        ("\\set x 'it''s'\nSELECT :'x';", "it's"),
        ("\\set x '''a|b'''\nSELECT replace(:x, '|', '-');", "a-b"),
        ("\\set t pg_class\nSELECT count(*) > 0 FROM :\"t\";", "t"),
        ("\\if false\n\\set x 1\n\\else\n\\echo y\n\\set x 2\n\\endif\nSELECT :x;", "y\n2"),
        ("\\if true\n\\if false\n\\echo a\n\\endif\n\\echo b\n\\elif true\n\\echo c\n\\endif", "b"),
        ("\\if :{?none}\n\\else\n\\set none 3\n\\endif\nSELECT :none;", "3"),
        ("SELECT 41 AS n, 'a b' AS w \\gset\nSELECT :n + 1, :'w';", "42|a b"),
        (
            "\\set v '(''a'' || 1)'\nSELECT 7 AS n \\gset\nSELECT :v, :n;\n"
            "\\set v '(''b'')'\nSELECT 8 AS m \\gset\nSELECT :v, :m;",
            "a1|7\nb|8",
        ),
        ("SELECT 'a''b' AS w \\gset\nSELECT :'w';", "a'b"),
        ("SELECT 'SELECT ' || g FROM generate_series(1, 2) g \\gexec", "1\n2"),
        ("SELECT 1 AS a \\gx\nSELECT 2 \\g\n\\echo three", "a|1\n2\nthree"),
        ("SELECT 1 \\; SELECT 2;", "1\n2"),
        (f"{T}COPY t FROM stdin;\n\\\\c x\n'\n\\.\nTABLE t;", "\\c x\n'"),
        (f"{T}COPY t FROM stdin \\g\na\n\\.\nTABLE t;", "a"),
        (f"{T}\\copy t from stdin\na\n\\.\nTABLE t;", "a"),
        (f"{T}\\copy t from 'rows.sql'\nTABLE t;\n\\echo e", "row\ne"),
        (f"{T}\\copy t from 'rows.sql'", ""),
        ("\\i more.sql\n\\ir more.sql\n\\echo end", "more\n2\nmore\n2\nend"),
        ("\\restrict abc\nSELECT 1;\n\\unrestrict abc\n", "1"),
        ("CREATE FUNCTION pg_temp.f() RETURNS int BEGIN ATOMIC SELECT 1; END;\nSELECT 2;", "2"),
        ("SELECT 'C:\\', E'\\'', $$\\c$$, $a$\\c$b$ \\$a$;", "C:\\|'|\\c|\\c$b$ \\"),
        ('SELECT "\\c" FROM (SELECT 1 AS "\\c") s;', "1"),
        ("SELECT 1 -- \\c\n/* \\c /* \\c */ \\c */;", "1"),
        ("\\set x 12:30\n\\echo :x", "12:30"),
        ("\\timing off\n\\x on\n\\x off\n\\unset z\n\\warn w\nSELECT 1;", "1"),
    ],
)  # fmt: skip
def test_what_a_file_may_hold_does_what_psql_does(
    run: Callable[..., str], text: str, printed: str
) -> None:
    said, _, out = run(ROWS + text if not text.startswith("\ufeff") else text, **OTHERS).partition(
        "\n"
    )
    assert ", committed, " in said
    if text.startswith("\ufeff"):
        assert "1 row" in out
    else:
        assert out.rstrip("\n") == printed


OTHERS = {"more": "\\echo more\n\\set x 2\nSELECT :x", "rows": "row\n"}


@pytest.mark.parametrize(
    "value", ["\\c postgres", "1; SELECT 2", "'", "a\nb", "--", "$$", "/*", ":y"]
)
def test_what_the_server_says_is_no_command(
    run: Callable[..., str], cluster: Cluster, value: str
) -> None:
    text = f"SELECT $q${value}$q$ AS x \\gset\nSELECT 1 AS a WHERE 2 = :x\n;"
    with pytest.raises(Failed, match=r'x\.sql:\d: ERROR: syntax error at or near ":"'):
        run(text)


def test_what_the_server_puts_over_a_text_of_the_file_is_looked_at(run: Callable[..., str]) -> None:
    with pytest.raises(Failed, match="syntax error"):
        run("\\set x 1\nSELECT '\\c postgres' AS x \\gset\nSELECT :x;")


def test_what_was_asked_cannot_be_redirected(run: Callable[..., str]) -> None:
    text = "\\o nowhere.txt\n\\pset format csv\n\\set QUIET on\n\\set VERBOSITY terse\nSELECT 1;"
    assert "committed" in run(text)


def test_errors_are_named_by_the_line_of_the_file_that_holds_them(
    run: Callable[..., str], tmp_path: Path
) -> None:
    inner = "\\set a 1\n\\copy (SELECT 1) to 'out.txt'\nSELECT 1 /\n 0;"
    with pytest.raises(Failed, match=r"^inner\.sql:4: ERROR: division by zero$"):
        run("\\set a 1\n\\i inner.sql\n", inner=inner)
    with pytest.raises(Failed, match=r"x\.sql:4: ERROR: division by zero$"):
        run("\\set a 1\n\\copy (SELECT 1) to 'out.txt'\n\\i inner.sql\nSELECT 1/0;", inner="")


# what is said of the transaction

SHELF = "CREATE TABLE shelf (id int);"


def there(cluster: Cluster, target: Target, name: str) -> bool:
    return bool(cluster.value(f"SELECT to_regclass('{name}') IS NOT NULL", target.database))


def test_committed_is_said_of_what_is_there(
    run: Callable[..., str], cluster: Cluster, target: Target
) -> None:
    assert ", committed, " in run(f"SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;\n{SHELF}")
    assert there(cluster, target, "shelf")


def test_an_error_that_psql_goes_on_behind_fails(
    run: Callable[..., str], cluster: Cluster, target: Target
) -> None:
    text = f"\\set ON_ERROR_STOP off\n{SHELF}\nDROP TABLE nowhere;\nSELECT 1;"
    with pytest.raises(Failed, match=r"nothing of it stays: .*x\.sql:1 turns ON_ERROR_STOP off"):
        run(text)
    assert not there(cluster, target, "shelf")
    words = r"^1 statement failed, as .*x\.sql:1 turns ON_ERROR_STOP off: .* each statement for its"
    with pytest.raises(Failed, match=words):
        run(text, transaction=False)
    assert there(cluster, target, "shelf")


def test_psql_may_be_idle_between_the_commands_of_a_file(
    run: Callable[..., str], cluster: Cluster, target: Target
) -> None:
    idle = ("idle_session_timeout", "idle_in_transaction_session_timeout")
    for name in (*idle, "statement_timeout"):
        cluster.execute(f"ALTER DATABASE \"{target.database}\" SET {name} = '77s'")
    said = run(f"{ROWS}SHOW {idle[0]};\nSHOW {idle[1]};\nSHOW statement_timeout;")
    assert said.splitlines()[1:] == ["0", "0", "77s"]


def test_what_a_file_prepares_is_not_committed(
    run: Callable[..., str], cluster: Cluster, target: Target
) -> None:
    text = "CREATE TABLE early (i int);\nPREPARE TRANSACTION 'later';\nCREATE TABLE late (i int);"
    try:
        with pytest.raises(
            Failed, match=r"2 \(PREPARE\) ended .*is not committed and keeps its lo"
        ):
            run(text)
        there = "SELECT relname FROM pg_class WHERE relname IN ('early', 'late')"
        assert cluster.execute(there, target.database) == [("late",)]
    finally:
        cluster.execute("ROLLBACK PREPARED 'later'", target.database)


NOTED = "DO $$ BEGIN RAISE NOTICE 'ERROR: none'; END $$;"
LENIENT = "\\set ON_ERROR_ROLLBACK on\n\\set ON_ERROR_STOP off\n"


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        ("SELECT 1/0;\n", "1 statement"),
        (f"SELECT 1/0;\n{NOTED}\nTABLE nowhere;\n", "2 statements"),
        ("\\copy shelf from 'missing'\n", "1 statement"),
        (f"{T}COPY t FROM stdin;\na\tb\n\\.\n", "1 statement"),
    ],
)  # fmt: skip
def test_what_failed_without_ending_the_transaction_fails(
    run: Callable[..., str], cluster: Cluster, target: Target, text: str, failed: str
) -> None:
    words = rf"^{failed} failed, as .*x\.sql:2 turns ON_ERROR_STOP off: .* is committed$"
    with pytest.raises(Failed, match=words):
        run(f"{LENIENT}{SHELF}\n{text}")
    assert there(cluster, target, "shelf")


def test_a_lenient_file_without_a_failure_is_done(run: Callable[..., str]) -> None:
    notice = "DO $$ BEGIN RAISE WARNING 'careful'; END $$;\nDROP TABLE IF EXISTS nowhere;"
    assert ", committed, " in run(f"{LENIENT}{notice}")
    assert "failed" not in run(f"{LENIENT}{notice}", transaction=False)


def test_a_server_of_another_language_counts_no_statements() -> None:
    german = ["psql:x.sql:3: FEHLER:  Division durch Null", "psql:x.sql:4: HINWEIS:  nichts"]
    assert session._failed(german, "22012") == "at least 1 statement"
    assert session._failed(german[1:], "00000") == ""


def test_a_seed_set_that_goes_on_behind_a_failure_is_not_loaded(
    cluster: Cluster, target: Target, tmp_path: Path
) -> None:
    (name,) = files(tmp_path, x=f"{LENIENT}{SHELF}\nSELECT 1/0;")
    words = r"^1 statement failed, as .*x\.sql:2 turns ON_ERROR_STOP off: nothing of it stays$"
    with pytest.raises(Failed, match=words):
        load(target, SeedSet("x", Path(name), name), "small")
    assert not there(cluster, target, "shelf")


def test_a_rollback_in_a_file_fails(
    run: Callable[..., str], cluster: Cluster, target: Target
) -> None:
    with pytest.raises(Failed, match=r"x\.sql:3 \(ROLLBACK\) ended the transaction"):
        run(f"BEGIN;\n{SHELF}\nROLLBACK;")
    assert not there(cluster, target, "shelf")
    with pytest.raises(Failed, match=r"a statement ended the transaction"):
        run(f"{SHELF}\nSELECT 'ROLLBACK' \\gexec")


def test_a_commit_in_a_file_is_named(
    run: Callable[..., str], cluster: Cluster, target: Target
) -> None:
    said = run(f"BEGIN;\n{SHELF}\nCOMMIT;")
    assert "x.sql:3 (COMMIT) ended the transaction" in said
    assert "committed," not in said
    assert there(cluster, target, "shelf")
    with pytest.raises(
        Failed, match=r"x\.sql:3: ERROR: .*; .*x\.sql:2 \(COMMIT\) ends .* may stay"
    ):
        run("CREATE TABLE box ();\nCOMMIT;\nSELECT 1/0;")
    assert there(cluster, target, "box")


def test_a_savepoint_is_no_end(run: Callable[..., str]) -> None:
    assert ", committed, " in run("SAVEPOINT a;\nSELECT 1;\nROLLBACK TO a;\nRELEASE a;")


def test_a_transaction_that_is_left_open_fails(
    run: Callable[..., str], cluster: Cluster, target: Target
) -> None:
    with pytest.raises(Failed, match="a transaction was open at the end and is rolled back"):
        run(f"BEGIN;\n{SHELF}", transaction=False)
    assert not there(cluster, target, "shelf")


def test_a_constraint_that_fails_at_commit(run: Callable[..., str]) -> None:
    keys = "CREATE TABLE p (id int PRIMARY KEY);\nCREATE TABLE c (p int REFERENCES p DEFERRABLE"
    with pytest.raises(Failed, match="violates foreign key constraint"):
        run(f"{keys} INITIALLY DEFERRED);\nINSERT INTO c VALUES (1);")


# the lexer, held against psql's own, and what is behind it


def test_our_lexer_sees_the_commands_that_psql_sees(any_cluster: Cluster, tmp_path: Path) -> None:
    read, different = lexing.compare(
        any_cluster.bin / "psql", any_cluster, tmp_path, seed=16, count=300
    )
    assert different == []
    assert read > 100


def test_rows_that_are_taken_at_once_are_read_all_the_same() -> None:
    lexer = Lexer()
    text = "INSERT INTO t VALUES (1, 'C:\\x', 'it''s', now()::text), (2, '--', '/*', ';');"
    assert lexer.pieces(text.encode()) == [text.encode()]
    assert (lexer.inside, lexer.begun) == ("", False)
    assert lexer.pieces(b"INSERT INTO t VALUES") == [b"INSERT INTO t VALUES"]
    assert lexer.begun
    assert lexer.pieces(b"  (1, ';'),") == [b"  (1, ';'),"]
    assert lexer.pieces(b"  (2, '$$'); ") == [b"  (2, '$$'); "]
    assert not lexer.begun
    assert lexer.pieces(b"INSERT INTO t VALUES ('a\\'); ") != []
    assert (lexer.inside, lexer.ambiguous) == ("", True)


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let our lexer see no command at all."""
    monkeypatch.setattr(Lexer, "pieces", lambda self, line: [line] if line else [])


def test_psql_itself_takes_no_command_that_we_did_not_see(
    run: Callable[..., str], blind: None, cluster: Cluster, target: Target
) -> None:
    if not session.restricts(session.psql(target)):
        pytest.skip("this psql has no restricted mode")
    for text in ("SELECT 1; \\c postgres\n", "\\set ON_ERROR_STOP off\n\\c postgres\n"):
        with pytest.raises(Failed, match="backslash commands are restricted"):
            run(f"{text}CREATE TABLE stray ();")
    assert not there(cluster, cluster.target("postgres"), "stray")


def test_a_session_that_psql_has_left_is_noticed(
    run: Callable[..., str], blind: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "restricts", lambda toolset: False)
    with pytest.raises(Failed, match="psql is not in the session that began: database 'postgres'"):
        run("SELECT 1; \\c postgres\n")


def test_a_psql_without_a_restricted_mode_runs_the_same(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "restricts", lambda toolset: False)
    text = "\\set x 7 \\\\ SELECT :x;\n\\restrict a\n\\i more.sql\n\\unrestrict a\n"
    text += "SELECT :x AS y \\gset\n"
    assert run(ROWS + text, **OTHERS).splitlines()[1:] == ["7", "more", "2"]


@pytest.mark.parametrize(
    ("version", "restricted"),
    [((15, 13), False), ((15, 14), True), ((16, 9), False), ((17, 6), True), ((18, 0), True)],
)
def test_which_psql_has_a_restricted_mode(version: tuple[int, int], restricted: bool) -> None:
    assert session.restricts(Toolset("/x", version, "system")) is restricted


def test_a_plain_dump_runs_and_counts(
    any_cluster: Cluster, fresh_database: Callable[..., str], tmp_path: Path
) -> None:
    source, target = fresh_database(any_cluster), any_cluster.target(fresh_database(any_cluster))
    any_cluster.execute(
        r"CREATE TABLE t AS SELECT g AS id, E'a\\b\tc\n\\.' || g AS x FROM generate_series(1, 9) g;"
        r"CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT '\c x'::text $$",
        source,
    )
    place = ["-h", any_cluster.host, "-p", str(any_cluster.port), "-U", any_cluster.superuser]
    argv = [str(any_cluster.bin / "pg_dump"), *place, "--no-owner", source]
    dump = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    assert "\\restrict " in dump
    name = files(tmp_path, dump=dump)[0]
    assert ", committed, " in script.run(target, script.checked([name]))
    assert any_cluster.value(r"SELECT x FROM t WHERE id = 3", target.database) == "a\\b\tc\n\\.3"
    any_cluster.execute("DROP TABLE t; DROP FUNCTION f", target.database)
    loaded = load(target, SeedSet("dump", Path(name), "dump.sql"), "small")
    assert loaded.tables == (Rows("public.t", 9, 0, 0),)


def test_the_seeds_of_this_repository_pass_as_they_are(tmp_path: Path) -> None:
    for path in sorted(ROOT.glob("sql/seeds/*.sql")):
        found = program.checked((Source(path.name, path),))
        assert not found.enders
        assert not found.lenient


def test_a_reader_that_goes_away_is_named_and_what_became_of_the_work(
    start_inv: Callable[..., subprocess.Popen[str]],
    project: Path,
    cluster: Cluster,
    database: str,
) -> None:
    cluster.execute("CREATE TABLE many (id int)", database)
    insert = "INSERT INTO many SELECT generate_series(1, 300000) RETURNING id"
    running = start_inv("db.run", "--sql", insert)
    assert running.stdout
    assert running.stderr
    running.stdout.readline()
    running.stdout.close()
    said = running.stderr.read()
    assert running.wait(PATIENCE) == 1
    assert (
        "error: the reader of the results closed its end, and psql ended: its transaction was"
        in said
    )
    assert said.rstrip().endswith("rolled back, nothing of it stays")
    assert cluster.value("SELECT count(*) FROM many", database) == 0

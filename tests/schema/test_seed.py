"""Seed sets: where they may go, what a load changed, and that a second one changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from projects import make_project, put_stamp, stamp_of
from roles import owned, plain  # noqa: F401
from seeds import CORE, DEMO, TABLES, sets
from servers import Cluster

from pgtasks.errors import BadConfiguration, Failed, Refused
from pgtasks.schema import seed
from pgtasks.schema.seed.load import Loaded, Rows
from pgtasks.schema.seed.load import load as load_set
from pgtasks.schema.seed.plan import SeedPlan
from pgtasks.schema.seed.sets import SeedSet, chosen, parse
from pgtasks.server import connection
from pgtasks.settings.project import load
from pgtasks.settings.target import Target


@pytest.fixture
def roles(cluster: Cluster, target: Target) -> Target:
    cluster.execute(TABLES, target.database)
    return target


@pytest.mark.parametrize(
    ("text", "name", "environments", "scales"),
    [
        (CORE, "core", "any", {}),
        (DEMO, "demo", "unprotected", {"small": 3, "large": 50}),
        ("SELECT 1;\n-- seed: late\n", "a file", "unprotected", {}),
        ("\n\n--seed:x\n--   scales:  a=1   b=22  \n", "x", "unprotected", {"a": 1, "b": 22}),
    ],
)
def test_the_head_of_a_file(
    text: str, name: str, environments: str, scales: dict[str, int]
) -> None:
    found = parse(text, Path("a file.sql"), "a file.sql")
    assert (found.name, found.environments, dict(found.scales)) == (name, environments, scales)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("-- seed:\n", "x.sql:1: seed: expected a value"),
        ("-- seed: a\n-- environments: dev\n", "x.sql:2: environments: 'dev', expected any or"),
        ("-- scales: small\n", "x.sql:1: scales: 'small', expected NAME=NUMBER"),
        ("-- scales: small=1 large=many\n", "expected NAME=NUMBER"),
    ],
)
def test_a_head_that_cannot_be_used(text: str, words: str) -> None:
    with pytest.raises(BadConfiguration) as caught:
        parse(text, Path("x.sql"), "x.sql")
    assert words in caught.value.message


def test_two_files_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "sql" / "seeds").mkdir(parents=True)
    for name in ("a", "b"):
        (tmp_path / "sql" / "seeds" / f"{name}.sql").write_text("-- seed: same\n")
    with pytest.raises(BadConfiguration, match=r"b\.sql: seed 'same' is in sql/seeds/a\.sql too"):
        seed.known(load(tmp_path))


def test_which_sets_may_go_where(tmp_path: Path) -> None:
    known = sets(tmp_path, core=CORE, demo=DEMO)

    def pick(*names: str, protection: str = "") -> list[str]:
        found = chosen(known, names, environment="dev", protection=protection)
        return [each.name for each in found]

    assert pick("demo", "core", "demo") == ["demo", "core"]
    assert pick("core", protection="environment 'prod' is protected") == ["core"]
    with pytest.raises(Refused, match="unknown seed set 'cor', known: core, demo"):
        pick("cor")
    with pytest.raises(Refused, match="--confirm does not change this"):
        pick("demo", protection="environment 'prod' is protected")
    with pytest.raises(Refused, match=r"inv env\.stamp"):
        pick("demo", protection="database 'x' has content and no stamp, ...")


def test_a_scale_is_one_that_the_file_names(tmp_path: Path) -> None:
    known = sets(tmp_path, core=CORE, demo=DEMO)
    assert known["core"].scale("whatever") is None
    assert known["demo"].scale("large") == 50
    with pytest.raises(Refused, match="no scale 'huge', known: small, large"):
        known["demo"].scale("huge")


def test_a_load_counts_rows_and_a_second_one_changes_nothing(
    any_cluster: Cluster, fresh_database: Callable[..., str], tmp_path: Path
) -> None:
    target = any_cluster.target(fresh_database(any_cluster))
    any_cluster.execute(TABLES, target.database)
    known = sets(tmp_path, core=CORE, demo=DEMO)

    assert load_set(target, known["core"], "small").tables == (Rows("public.roles", 2, 0, 0),)
    assert load_set(target, known["demo"], "small").tables == (Rows("public.roles", 3, 0, 0),)
    again = load_set(target, known["demo"], "small")

    assert again.tables == ()
    assert not again.changed
    assert again.lines()[0].startswith("demo at scale small is there already, no row was changed")
    assert load_set(target, known["demo"], "large").tables == (Rows("public.roles", 47, 0, 0),)
    assert any_cluster.value("SELECT name FROM roles WHERE id = 2", target.database) == "ü 🐘"


def test_each_way_to_write_is_counted_on_the_table_and_not_on_its_partitions(
    cluster: Cluster, roles: Target, tmp_path: Path
) -> None:
    cluster.execute("INSERT INTO roles SELECT g, 'x' FROM generate_series(1, 5) g", roles.database)
    text = (
        "INSERT INTO logs SELECT g, date '2025-12-30' + g FROM generate_series(1, 4) g;\n"
        "UPDATE roles SET name = 'y' WHERE id < 3;\nDELETE FROM roles WHERE id > 3;\n"
        'CREATE TABLE "an \'odd\' ""name"" 🐘" AS SELECT 1 AS n;\n'
    )
    done = load_set(roles, sets(tmp_path, x=text)["x"], "small")
    assert done.tables == (
        Rows('public."an \'odd\' ""name"" 🐘"', 1, 0, 0),
        Rows("public.logs", 4, 0, 0),
        Rows("public.roles", 0, 2, 2),
    )
    assert done.lines()[-1].startswith("loaded x: 9 rows in 3 tables")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("INSERT INTO roles VALUES (9, 'x');\nINSERT INTO\n  nowhere VALUES (1);", 3, "nowhere"),
        ("INSERT INTO roles VALUES (9, 'x');\nSELECT 1 / 0;", 2, "division by zero"),
    ],
)
def test_a_fault_names_file_and_line_and_nothing_stays(
    cluster: Cluster, roles: Target, tmp_path: Path, text: str, line: int, words: str
) -> None:
    made = sets(tmp_path, **{"a é": text})["a é"]
    with pytest.raises(Failed) as caught:
        load_set(roles, made, "small")
    assert words in caught.value.message + caught.value.hint
    assert caught.value.message.startswith(f"a é.sql:{line}: ")
    assert cluster.value("SELECT count(*) FROM roles", roles.database) == 0


def test_a_command_that_psql_does_not_know_is_refused_before(
    cluster: Cluster, roles: Target, tmp_path: Path
) -> None:
    text = "INSERT INTO roles VALUES (9, 'x');\nCOMMIT;\n\\no_such_command\n"
    with pytest.raises(Refused, match=r"x\.sql:3: \\no_such_command is not among the commands"):
        load_set(roles, sets(tmp_path, x=text)["x"], "small")
    assert cluster.value("SELECT count(*) FROM roles", roles.database) == 0


def test_a_file_cannot_lead_elsewhere(roles: Target, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="connect"):
        load_set(roles, sets(tmp_path, x="\\connect postgres\n")["x"], "small")


def test_a_file_that_commits_is_warned_of(
    roles: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = sets(tmp_path, x="INSERT INTO roles VALUES (9, 'x');\nCOMMIT;\nSELECT 'told';\n")["x"]
    load_set(roles, made, "small")
    said = capsys.readouterr().err
    assert "x.sql ends the transaction" in said
    assert "told" in said


def test_limits_of_the_role_do_not_end_a_load(
    cluster: Cluster, roles: Target, tmp_path: Path
) -> None:
    cluster.execute(f"ALTER DATABASE {roles.database} SET statement_timeout = '200ms'")
    made = sets(tmp_path, x="SELECT pg_sleep(0.5);\nINSERT INTO roles VALUES (9, 'x');\n")["x"]
    assert load_set(roles, made, "small").changed


def test_a_server_that_does_not_count(cluster: Cluster, roles: Target, tmp_path: Path) -> None:
    cluster.execute(f"ALTER DATABASE {roles.database} SET track_counts = off")
    done = load_set(roles, sets(tmp_path, core=CORE)["core"], "small")
    assert done.tables is None
    assert done.changed
    assert "rows are not counted" in done.lines()[0]


def test_lines_of_a_load() -> None:
    tables = (Rows("public.a", 812_004, 0, 0), Rows("public.b", 1, 2, 3))
    assert Loaded("demo", "large", tables, 4.2).lines() == [
        "  public.a: 812,004 inserted",
        "  public.b: 1 inserted, 2 updated, 3 deleted",
        "loaded demo at scale large: 812,010 rows in 2 tables in 4.2 s",
    ]


# through the command line


@pytest.fixture
def shop(roles: Target, project: Path) -> Path:
    (project / "sql" / "seeds").mkdir(parents=True)
    sets(project / "sql" / "seeds", core=CORE, demo=DEMO)
    return project


def test_load_and_list_as_tasks(inv: Any, shop: Path) -> None:
    nothing = inv("seed.load")
    assert nothing.returncode == 2
    assert "names no seeds, name a set with --set: core, demo" in nothing.stderr

    with (shop / "env" / "dev.yaml").open("a") as file:
        file.write("seeds: [core, demo]\n")
    loaded = inv("seed.load", "--json")
    assert loaded.returncode == 0, loaded.stderr
    found = json.loads(loaded.stdout)["sets"]
    assert [(each["set"], each["scale"], each["changed"]) for each in found] == [
        ("core", None, True),
        ("demo", "small", True),
    ]
    assert found[1]["tables"] == [
        {"table": "public.roles", "inserted": 3, "updated": 0, "deleted": 0}
    ]
    again = inv("seed.load", "--set", "demo", "--set", "core")
    assert again.stdout.splitlines() == [
        "demo at scale small is there already, its file is the same",
        "core is there already, its file is the same",
    ]
    forced = inv("seed.load", "--set", "core", "--again")
    assert forced.stdout.startswith("core is there already, no row was changed")
    listed = json.loads(inv("seed.list", "--json").stdout)["sets"]
    assert [(each["set"], each["named"]) for each in listed] == [("core", True), ("demo", True)]


def load_sets(target: Target, *loaded: SeedSet, again: bool = False) -> list[tuple[str, str]]:
    done = SeedPlan(tuple(loaded), "small").load(target, say=lambda line: None, again=again)
    return [(each.name, each.state) for each in done.sets]


def test_a_changed_file_is_loaded_again_if_it_is_repeatable(
    cluster: Cluster, roles: Target, tmp_path: Path
) -> None:
    put_stamp(roles)
    known = sets(tmp_path, core=CORE, often=f"-- repeatable: yes\n{DEMO}")
    assert load_sets(roles, *known.values()) == [("core", "loaded"), ("demo", "loaded")]
    assert load_sets(roles, *known.values()) == [("core", "unchanged"), ("demo", "unchanged")]
    mark = stamp_of(cluster, roles.database)
    assert " seeds=core:" in mark.replace("%3A", ":")
    known = sets(tmp_path, core=f"{CORE}-- more\n", often=f"-- repeatable: yes\n{DEMO}-- more\n")
    assert load_sets(roles, *known.values()) == [("core", "changed"), ("demo", "loaded")]
    assert load_sets(roles, known["core"], again=True) == [("core", "loaded")]
    assert load_sets(roles, known["core"]) == [("core", "unchanged")]


def test_a_set_that_fails_is_not_recorded(roles: Target, tmp_path: Path) -> None:
    put_stamp(roles)
    wrong = sets(tmp_path, x="INSERT INTO roles VALUES (9, 'x');\nSELECT 1 / 0;")["x"]
    for _ in range(2):
        with pytest.raises(Failed, match="division by zero"):
            load_sets(roles, wrong)


def test_a_role_that_may_not_write_the_record_loads_each_time(
    owned: Target,  # noqa: F811
    plain: Callable[..., str],  # noqa: F811
    cluster: Cluster,
    tmp_path: Path,
) -> None:
    put_stamp(owned)
    cluster.execute(TABLES, owned.database)
    other = replace(owned, user=plain())
    cluster.execute(f"GRANT ALL ON roles TO {other.user}", owned.database)
    core = sets(tmp_path, core=CORE)["core"]
    assert load_sets(other, core) == load_sets(other, core) == [("core", "loaded")]


SEQUENCES = """
CREATE TABLE "a ""b 🐘" (id serial PRIMARY KEY, big bigint GENERATED ALWAYS AS IDENTITY);
CREATE TABLE untouched (id serial PRIMARY KEY);
"""
ROWS = """INSERT INTO "a ""b 🐘" (id) VALUES (41), (7); SELECT setval('untouched_id_seq', 3);"""


def test_sequences_are_set_behind_the_rows(cluster: Cluster, roles: Target, tmp_path: Path) -> None:
    cluster.execute(SEQUENCES, roles.database)
    load_sets(roles, sets(tmp_path, rows=ROWS)["rows"])
    row = cluster.execute('INSERT INTO "a ""b 🐘" DEFAULT VALUES RETURNING *', roles.database)
    assert row == [(42, 3)]
    assert cluster.value("SELECT nextval('untouched_id_seq')", roles.database) == 4


ODD_SEQUENCES = """
CREATE SEQUENCE numbered; CREATE SEQUENCE cycled MAXVALUE 99 CYCLE;
CREATE TABLE bills (number text DEFAULT 'INV-' || nextval('numbered'), short int);
ALTER SEQUENCE numbered OWNED BY bills.number; ALTER SEQUENCE cycled OWNED BY bills.short;
"""


def test_sequences_of_other_columns_are_left_alone(
    cluster: Cluster, roles: Target, tmp_path: Path
) -> None:
    cluster.execute(ODD_SEQUENCES, roles.database)
    load_sets(roles, sets(tmp_path, rows="INSERT INTO bills (short) VALUES (1000);")["rows"])
    assert cluster.execute("SELECT * FROM bills", roles.database) == [("INV-1", 1000)]
    assert cluster.value("SELECT nextval('cycled')", roles.database) == 1


PYTHON = """# seed: made
# scales: small=3 large=50
import random


def load(connection, scale):
    with connection.cursor() as cursor:
        for number in range(scale):
            row = (1000 + number, str(random.random()))
            cursor.execute("INSERT INTO roles VALUES (%s, %s)", row)
"""


def python_set(folder: Path, text: str) -> SeedSet:
    path = folder / "made.py"
    path.write_text(text)
    return parse(text, path, "made.py")


def test_a_set_in_python(cluster: Cluster, roles: Target, tmp_path: Path) -> None:
    put_stamp(roles)
    made = python_set(tmp_path, PYTHON)
    assert load_set(roles, made, "small").tables == (Rows("public.roles", 3, 0, 0),)
    query = "SELECT array_agg(name ORDER BY id) FROM roles"
    first = cluster.value(query, roles.database)
    cluster.execute("DELETE FROM roles", roles.database)
    assert load_sets(roles, made) == [("made", "unchanged")]
    assert load_sets(roles, made, again=True) == [("made", "loaded")]
    assert cluster.value(query, roles.database) == first, "the same rows each time"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PYTHON.replace("VALUES (%s, %s)", "VALUES (%s, %s, 1)"), "made.py:10: .*more expressions"),
        (PYTHON.replace("range(scale)", "range(scale / 0)"), "made.py:8: ZeroDivisionError"),
        ("# seed: made\n", "made.py: it has no function load"),
        ("# seed: made\nimport sys\nsys.exit(0)\n", "made.py:3: SystemExit: 0; nothing of it"),
        (f"{PYTHON}    raise SystemExit\n", "made.py:11: SystemExit: ; nothing of it stays"),
        (f"{PYTHON}    raise GeneratorExit('g')\n", "made.py:11: GeneratorExit: g; nothing of"),
        (f"{PYTHON}    connection.close()\n", "made.py closed its connection: what it had not"),
        (
            f"{PYTHON}    raise Stop('s')\n\nclass Stop(BaseException): pass\n",
            "made.py:11: Stop: s; nothing of it stays",
        ),
        (f"{PYTHON}    connection.commit()\n", "made.py ended its transaction"),
    ],
)
def test_a_fault_in_python_names_its_line(
    cluster: Cluster, roles: Target, tmp_path: Path, text: str, words: str
) -> None:
    made = python_set(tmp_path, text)
    with pytest.raises(Failed, match=words):
        load_set(roles, made, "small")
    kept = 3 if "commit" in text else 0
    assert cluster.value("SELECT count(*) FROM roles", roles.database) == kept


def test_what_a_set_in_python_prints_is_no_result(
    roles: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"{PYTHON}    print('in it')\n\nprint('on import')\n"
    load_set(roles, python_set(tmp_path, text), "small")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "on import\nin it\n")


def test_sets_come_after_those_that_they_need(tmp_path: Path) -> None:
    heads = {"a": "-- needs: b, c\n", "b": "-- needs: c\n", "c": "", "d": "-- needs: e\n"}
    known = sets(tmp_path, **heads, e="-- needs: d\n")
    order = chosen(known, ["a", "c"], environment="dev", protection="")
    assert [each.name for each in order] == ["c", "b", "a"]
    with pytest.raises(BadConfiguration, match="need each other: d -> e -> d"):
        chosen(known, ["d"], environment="dev", protection="")
    missing = sets(tmp_path, f="-- needs: g\n")
    with pytest.raises(Refused, match="unknown seed set 'g'"):
        chosen(missing, ["f"], environment="dev", protection="")


def test_a_set_that_cannot_be_loaded_again_is_told_how(
    inv: Any, shop: Path, target: Target
) -> None:
    with connection.session(target) as conn:
        connection.execute(conn, "CREATE TABLE public.plain (id int PRIMARY KEY)")
    (shop / "sql" / "seeds" / "plain.sql").write_text(
        "-- seed: plain\n-- environments: any\nINSERT INTO plain VALUES (1);\n"
    )
    assert inv("seed.load", "--set", "plain").returncode == 0
    assert inv("seed.load", "--set", "plain").returncode == 0, "it is not loaded again"
    again = inv("seed.load", "--set", "plain", "--again")
    assert again.returncode == 1
    assert "INSERT ... ON CONFLICT DO NOTHING leaves what is there" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--set", "nope"), "unknown seed set 'nope', known: core, demo"),
        (("--set", "demo", "--scale", "huge"), "no scale 'huge', known: small, large"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    inv: Any, shop: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = inv("seed.load", *arguments)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_protected_environment_gets_only_what_belongs_everywhere(
    inv: Any, shop: Path, cluster: Cluster, database: str
) -> None:
    with (shop / "env" / "dev.yaml").open("a") as file:
        file.write("protected: true\n")
    for more in ((), ("--confirm", database)):
        done = inv("seed.load", "--set", "core", "--set", "demo", *more)
        assert done.returncode == 2
        assert "for unprotected environments alone" in done.stderr
    assert inv("seed.load", "--set", "core").returncode == 2
    assert cluster.value("SELECT count(*) FROM roles", database) == 0
    assert inv("seed.load", "--set", "core", "--confirm", database).returncode == 0
    assert cluster.value("SELECT count(*) FROM roles", database) == 2


def test_a_dry_run_loads_nothing(inv: Any, shop: Path, cluster: Cluster, database: str) -> None:
    done = inv("seed.load", "--set", "demo", "--scale", "large", "--dry")
    assert done.stdout == "would load demo at scale large (50) from sql/seeds/demo.sql\n"
    assert cluster.value("SELECT count(*) FROM roles", database) == 0


def test_the_password_goes_by_a_file(
    inv: Any, password_cluster: Cluster, fresh_database: Callable[..., str], tmp_path: Path
) -> None:
    target = password_cluster.target(fresh_database(password_cluster))
    password_cluster.execute(TABLES, target.database)
    put_stamp(target)
    root = make_project(tmp_path / "shop", "$SHOP")
    (root / "env" / "dev.env").write_text(f"SHOP={target.url(reveal=True)}\n")
    (root / "sql" / "seeds").mkdir(parents=True)
    sets(root / "sql" / "seeds", core=CORE)
    # psql says what it was given and hands on to the real one
    watching = tmp_path / "bin"
    watching.mkdir()
    for path in password_cluster.bin.iterdir():
        (watching / path.name).symlink_to(path)
    (watching / "psql").unlink()
    (watching / "psql").write_text(
        f'#!/bin/sh\nenv >&2; echo "$@" >&2; exec {password_cluster.bin}/psql "$@"\n'
    )
    (watching / "psql").chmod(0o755)
    with (root / "env" / "dev.yaml").open("a") as file:
        file.write(f"tools: {watching}\n")
    done = inv("seed.load", "--set", "core", cwd=root)
    assert done.returncode == 0, done.stderr
    assert "PGPASSFILE=" in done.stderr
    assert "s3cret" not in done.stdout + done.stderr

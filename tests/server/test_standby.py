"""A hot standby: it can be checked and backed up, and nothing is written to it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import servers
from conftest import Inv
from halting import halted
from projects import make_project, put_stamp
from servers import Cluster
from waiting import PATIENCE, until

# so that replay ends at once what stands in its way
IMPATIENT = {"max_standby_streaming_delay": "0"}


@dataclass(frozen=True)
class Pair:
    """A server and its standby."""

    primary: Cluster
    standby: Cluster

    def catch_up(self) -> None:
        """Wait until the standby has replayed what the primary has committed."""
        # what a commit that does not wait for its WAL has inserted, written yet or not
        position = self.primary.value("SELECT pg_current_wal_insert_lsn()::text")
        replayed = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
        until(lambda: self.standby.value(replayed, parameters=(position,)))


@dataclass(frozen=True)
class Shop:
    """A project whose `prod` is the standby's copy of a database of the primary's."""

    root: Path
    database: str


@pytest.fixture(scope="module", params=["cluster", "cluster18", "system_cluster"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Return a server and its hot standby."""
    primary: Cluster = request.getfixturevalue(request.param)
    with servers.running(primary.bin, standby_of=primary, settings=IMPATIENT) as standby:
        assert standby.value("SELECT pg_is_in_recovery()")
        yield Pair(primary, standby)


@pytest.fixture
def shop(pair: Pair, tmp_path: Path, fresh_database: Callable[..., str]) -> Shop:
    """Return a project with some content in its database."""
    name = fresh_database(pair.primary)
    pair.primary.psql(
        name,
        "CREATE TABLE kept AS SELECT g AS id, 'row ' || g AS word FROM generate_series(1, 1000) g;"
        "CREATE UNLOGGED TABLE passing (id serial, n int GENERATED ALWAYS AS IDENTITY, word text);"
        "INSERT INTO passing (word) VALUES ('x');"
        "CREATE SEQUENCE numbers; SELECT nextval('numbers');",
    )
    put_stamp(pair.primary.target(name, environment="prod"))
    pair.catch_up()
    root = make_project(tmp_path / "shop", pair.standby.url(name), environment="prod")
    return Shop(root, name)


def test_check_says_that_it_is_one(shop: Shop, inv: Inv) -> None:
    done = inv("db.check", "--env", "prod", "--json", cwd=shop.root)
    assert done.returncode == 0, done.stderr
    findings = {each["subject"]: each for each in json.loads(done.stdout)["findings"]}
    assert findings["server"]["state"] == "note"
    assert findings["server"]["text"].endswith(", a standby, which is read-only")
    assert {each["state"] for each in findings.values()} == {"ok", "note"}


def test_a_backup_of_it_is_proven(shop: Shop, inv: Inv, pair: Pair) -> None:
    done = inv("db.backup", "--env", "prod", "--json", cwd=shop.root)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    warning = "without the rows of 1 unlogged table, which a standby does not have: public.passing"
    assert made["warnings"] == [warning]
    assert f"warning: {warning}" in done.stderr
    assert (made["tables"], made["rows"], made["with_proof"]) == (2, 1000, True)
    reason = "it is unlogged, and a standby does not have its rows"
    assert ["table public.passing", reason] in made["unproven"]
    assert not [name for name, _ in made["unproven"] if name.endswith((".kept", ".numbers"))]
    assert inv("backup.verify", "--env", "prod", cwd=shop.root).returncode == 0
    # and it comes back, on the primary, as what it was
    (shop.root / "env" / "qa.yaml").write_text(f"url: '{pair.primary.url(shop.database + '_qa')}'")
    try:
        place = ["--env", "qa", "--backup", made["path"], "--json"]
        # another environment's backup, and both servers know superusers alone
        place += ["--as-superuser", "--confirm", f"{shop.database}_qa"]
        back = inv("db.restore", *place, cwd=shop.root)
        assert back.returncode == 0, back.stderr
        assert pair.primary.value("SELECT count(*) FROM kept", f"{shop.database}_qa") == 1000
        # the log that a standby replays runs up to 32 values ahead of a sequence
        assert 2 <= pair.primary.value("SELECT nextval('numbers')", f"{shop.database}_qa") <= 34
    finally:
        pair.primary.drop(f"{shop.database}_qa")


def test_what_is_left_out_is_said_without_a_proof_too(shop: Shop, inv: Inv) -> None:
    done = inv("db.backup", "--env", "prod", "--no-proof", cwd=shop.root)
    assert done.returncode == 0, done.stderr
    assert "warning: without the rows of 1 unlogged table" in done.stderr
    done = inv("db.backup", "--env", "prod", "--schema-only", cwd=shop.root)
    assert "unlogged" not in done.stderr  # no rows at all are wanted


@pytest.mark.parametrize(
    "words",
    [
        ["db.restore"],
        ["db.undo"],
        ["db.recover"],
        ["db.forget"],
        ["db.drop"],
        ["db.run", "--file", "a.sql"],
        ["db.shell", "--write"],
        ["env.stamp"],
        ["setup"],
    ],
)
def test_what_writes_is_refused(shop: Shop, inv: Inv, words: list[str]) -> None:
    (shop.root / "a.sql").write_text("SELECT 1;")
    done = inv(*words, "--env", "prod", "--confirm", shop.database, cwd=shop.root)
    assert done.returncode == 2, done.stderr
    said = done.stderr.splitlines()[-1]
    assert said == "error: the server is a standby, which only reads: name its primary"


def test_an_environment_of_its_own_inherits_from_the_primarys(
    shop: Shop, inv: Inv, pair: Pair
) -> None:
    replica = shop.root / "env" / "replica.yaml"
    replica.write_text(f"url: '{pair.standby.url(shop.database)}'\n")
    done = inv("db.backup", "--env", "replica", cwd=shop.root)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"error: database {shop.database!r} is stamped 'prod', the chosen environment is "
        "'replica': it is a standby, with the stamp of its primary: choose that one, or let "
        "'replica' inherit from it (inherits: prod)"
    )
    replica.write_text(f"inherits: prod\nurl: '{pair.standby.url(shop.database)}'\n")
    done = inv("db.backup", "--env", "replica", "--json", cwd=shop.root)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["environment"] == "replica"
    assert inv("db.check", "--env", "replica", cwd=shop.root).returncode == 0
    done = inv("env.check", "--env", "replica", cwd=shop.root)
    assert "stamped" not in done.stdout + done.stderr
    # the primary itself is prod's alone
    replica.write_text(f"inherits: prod\nurl: '{pair.primary.url(shop.database)}'\n")
    done = inv("db.backup", "--env", "replica", cwd=shop.root)
    assert (done.returncode, "run inv env.stamp" in done.stderr) == (2, True)


def test_a_backup_that_replay_ends_says_so(
    shop: Shop, pair: Pair, start_inv: Callable[..., Any]
) -> None:
    running = start_inv(
        "db.backup", "--env", "prod", cwd=shop.root, env={"PGTASKS_HALT_AT": "backup.dumping"}
    )
    while "halted" not in (line := running.stderr.readline()):
        assert line, "it ended"
    # rows that the snapshot of the backup sees are taken away on the primary
    pair.primary.execute("DELETE FROM kept", shop.database)
    pair.primary.execute("VACUUM kept", shop.database)
    pair.catch_up()
    os.kill(running.pid, signal.SIGUSR1)
    _, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == 1
    assert err.splitlines()[-1] == (
        "error: the standby ended the backup to replay what its primary did: let it wait longer "
        "(max_standby_streaming_delay), or the primary (hot_standby_feedback = on)"
    )
    assert not list((shop.root / "backups").rglob("*Z-*"))


@pytest.fixture
def qa(shop: Shop, pair: Pair) -> Iterator[str]:
    """Return the name of qa's database, on the primary, which does not exist yet."""
    name = f"{shop.database}_qa"
    (shop.root / "env" / "qa.yaml").write_text(f"url: '{pair.primary.url(name)}'")
    yield name
    for each in [other for other in pair.primary.databases() if other.startswith(name)]:
        pair.primary.drop(each)


def copying(shop: Shop, qa: str) -> list[str]:
    """Return the words that copy prod as it is; both servers know superusers alone."""
    unmasked = ["--unmasked", "--confirm-source", shop.database]
    return ["db.copy", "prod", "qa", *unmasked, "--as-superuser", "--confirm", qa]


def test_a_copy_of_it_is_proven(shop: Shop, qa: str, inv: Inv, pair: Pair) -> None:
    done = inv(*copying(shop, qa), "--json", cwd=shop.root)
    assert done.returncode == 0, done.stderr
    assert "the rows of unlogged tables are missing" in " ".join(json.loads(done.stdout)["notes"])
    assert pair.primary.value("SELECT count(*) FROM kept", qa) == 1000
    assert pair.primary.value("SELECT count(*) FROM passing", qa) == 0
    assert 2 <= pair.primary.value("SELECT nextval('numbers')", qa) <= 34


def test_a_copy_that_replay_ends_says_so(
    shop: Shop, qa: str, pair: Pair, start_inv: Callable[..., Any]
) -> None:
    running = halted(start_inv, "copy.dumping", *copying(shop, qa), cwd=shop.root)
    # rows that the snapshot of the copy sees are taken away on the primary
    pair.primary.execute("DELETE FROM kept", shop.database)
    pair.primary.execute("VACUUM kept", shop.database)
    pair.catch_up()
    os.kill(running.pid, signal.SIGUSR1)
    _, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == 1
    assert err.splitlines()[-1].startswith("error: the standby ended the copy to replay")
    assert not [name for name in pair.primary.databases() if name.startswith(qa)]

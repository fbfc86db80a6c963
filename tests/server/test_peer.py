"""A socket is its server's: what a stranger makes where anybody may write gets no password."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hosts import DatabaseHost
from paths import TEMPORARY
from projects import make_project, put_stamp
from servers import Cluster, identity
from waiting import PATIENCE

from pgtasks.errors import Refused, Unreachable
from pgtasks.host import peer, tools
from pgtasks.server import connection, reach
from pgtasks.server.reach import Reached
from pgtasks.settings.secret import Secret
from pgtasks.settings.ssh import Login
from pgtasks.settings.target import SocketFacts, Target

# asks whoever comes for a password in clear, and writes down what comes
GREEDY = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(9)
os.chmod(sys.argv[1], 0o777)
print("ready", flush=True)
while True:
    c, _ = s.accept()
    with c:
        size = int.from_bytes(c.recv(4, socket.MSG_WAITALL), "big")
        if not size: continue
        c.recv(size - 4, socket.MSG_WAITALL)
        c.sendall(b"R" + (8).to_bytes(4, "big") + (3).to_bytes(4, "big"))
        print(repr(c.recv(999)), flush=True)
"""


def at(folder: str, **more: Any) -> Target:
    return Target("prod", folder, 5432, "shop", "ann", password=Secret("hush"), **more)


@pytest.fixture
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder as /tmp is, which every account reaches."""
    folder = Path(tempfile.mkdtemp(prefix="pgt-", dir=TEMPORARY))
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def greedy(path: Path) -> Iterator[list[str]]:
    """Run the server of a stranger for a block; yield what it heard."""
    if os.geteuid() != 0:
        pytest.skip("another account needs root")
    argv = ["python3", "-c", GREEDY, str(path)]
    heard: list[str] = []
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, user="nobody") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        reader = threading.Thread(target=lambda: heard.extend(process.stdout or ()), daemon=True)
        reader.start()
        try:
            yield heard
        finally:
            process.kill()
            reader.join(PATIENCE)


@pytest.mark.parametrize("below", ["", "made/by/nobody"])
def test_a_strangers_socket_gets_nothing(shared: Path, below: str) -> None:
    if below:
        if os.geteuid() != 0:
            pytest.skip("another account needs root")
        subprocess.run(["mkdir", "-p", shared / below], user="nobody", check=True)
    folder = shared / below
    with greedy(folder / ".s.PGSQL.5432") as heard:
        with pytest.raises(Refused) as refusal:
            connection.connect(at(str(folder)))
        link = shared / "link"
        link.symlink_to(folder)
        with pytest.raises(Refused):
            connection.connect(at(str(link)))
        assert heard == []
        said = refusal.value.message
        what = folder / ".s.PGSQL.5432" if not below else shared / "made"
        assert said.startswith(f"{str(what)!r} belongs to 'nobody', and anybody may write to ")
        assert "set requirepeer: nobody" in said
        with pytest.raises(Unreachable):  # said: then it is one's own business
            connection.connect(at(str(folder), parameters={"requirepeer": "nobody"}))
    assert "hush" in heard[0]


def test_a_folder_that_its_owner_alone_may_write_to_is_his(shared: Path) -> None:
    (shared / "own").mkdir(mode=0o755)
    with greedy(shared / "own.socket"):
        (shared / "own.socket").rename(shared / "own" / ".s.PGSQL.5432")
        found = peer.look(str(shared / "own"), 5432)
        assert (found.owner, set(found.makers)) == ("nobody", {"root"})
        assert peer.trusted(at(str(shared / "own"))).parameters == {"requirepeer": "nobody"}


def test_a_server_of_ones_own_or_of_the_system_is_no_stranger(cluster: Cluster) -> None:
    target = cluster.target("postgres")
    owner = _name(identity().get("user", os.geteuid()))
    assert peer.look(cluster.host, cluster.port).owner == owner
    assert peer.trusted(target).parameters["requirepeer"] == owner
    connection.connect(target).close()


def _name(uid: int) -> str:
    return pwd.getpwuid(uid).pw_name


@pytest.mark.parametrize("owner", ["root", "postgres", "me"])
def test_accounts_that_no_stranger_has(owner: str) -> None:
    facts = SocketFacts("/tmp", "me", owner, {owner: "/tmp/.s.PGSQL.5432"})
    target = at("/tmp", ssh=Login("db1"), peer=facts)
    assert peer.trusted(target).parameters == {"requirepeer": owner}
    other = at("/tmp", ssh=Login("db1"), peer=facts, parameters={"requirepeer": "bob"})
    with pytest.raises(Refused, match="requirepeer is 'bob'"):
        peer.trusted(other)


def test_an_environment_says_whose_it_is(
    cluster: Cluster, database: str, tmp_path: Path, inv: Any
) -> None:
    put_stamp(cluster.target(database))
    root = make_project(tmp_path / "shop", cluster.url(database))
    owner = _name(identity().get("user", os.geteuid()))
    place = f"host: {cluster.host}\nport: {cluster.port}\nuser: {cluster.superuser}\n"
    stranger = "root" if owner == "nobody" else "nobody"
    for said, code in ((owner, 0), (stranger, 2)):
        (root / "env" / "dev.yaml").write_text(
            f"{place}database: {database}\nrequirepeer: {said}\n"
        )
        done = inv("db.check", "--json", cwd=root)
        assert done.returncode == code, done.stderr
    assert f"requirepeer is {stranger!r}" in json.loads(done.stdout)["error"]


# on a database host


@pytest.fixture
def away(db1: DatabaseHost) -> Iterator[Callable[..., Reached]]:
    """Return what logs in to db1 for a server that is not there."""
    opened: list[Reached] = []

    def make(host: str = "", **more: Any) -> Reached:
        wanted = Target(
            *("prod", host, 5431, "shop", "ann"),
            password=Secret("hush"),
            ssh=Login(**db1.place(silence=5)),
            **more,
        )
        opened.append(reach.opened(wanted))
        return opened[-1]

    yield make
    for made in opened:
        made.close()


@pytest.mark.parametrize("named", [False, True])
def test_a_strangers_socket_there_gets_nothing(
    db1: DatabaseHost, away: Callable[..., Reached], named: bool
) -> None:
    mallory = db1.user_with(role=False)
    path = f"{db1.temporary}/.s.PGSQL.5431"
    log = db1.machine.folder / "greedy"
    process = db1.machine.start("python3", "-c", GREEDY, path, log=log, user=mallory)
    try:
        while "ready" not in log.read_text():
            assert process.poll() is None, log.read_text()
        made = away(db1.temporary if named else "")
        with pytest.raises(Refused) as refusal:
            reach.answering(made)
        assert refusal.value.message.startswith(
            f"{db1.user}@{db1.address}: '{path}' belongs to {mallory!r}, and anybody may write to"
        )
        with pytest.raises(Refused):
            tools.environment(made.there, "")
        assert "hush" not in log.read_text()
        if named:  # by libpq: not in clear
            mine = away(db1.temporary, parameters={"requirepeer": mallory})
            with pytest.raises(Unreachable, match="cleartext"):
                reach.answering(mine)
            assert "hush" not in log.read_text()
    finally:
        db1.do("pkill", "-u", mallory, "-f", "PGSQL.5431")
        process.wait(PATIENCE)
        db1.do("rm", path)


def test_the_servers_own_socket_there_is_used(db1: DatabaseHost) -> None:
    if db1.machine.lacks:
        pytest.skip(f"needs a machine of its own: {db1.machine.lacks}")
    for host in ("", db1.sockets):
        wanted = Target(
            *("prod", host, db1.cluster.port, "postgres", db1.user),
            ssh=Login(**db1.place(silence=5)),
        )
        made = reach.reach(wanted, Path())
        target = made.target
        try:
            assert target.host == db1.sockets
            assert target.peer is not None
            assert (target.peer.owner, target.peer.makers) == ("postgres", {})
        finally:
            made.close()

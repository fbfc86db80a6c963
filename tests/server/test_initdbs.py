"""The servers of tests whose data folder is a copy, see support/initdbs.py."""

from __future__ import annotations

from pathlib import Path

import initdbs
import pytest
import servers
from servers import Cluster

from pgtasks.server.embedded import datadir
from pgtasks.server.embedded.account import for_server

_IDENTIFIER = "SELECT system_identifier FROM pg_control_system()"


@pytest.mark.parametrize("made", ["cluster", "cluster18", "system_cluster"])
def test_servers_of_one_copy_have_each_an_identifier_of_its_own(
    request: pytest.FixtureRequest, made: str
) -> None:
    first: Cluster = request.getfixturevalue(made)
    with servers.running(first.bin) as second, servers.running(first.bin) as third:
        assert len({each.value(_IDENTIFIER) for each in (first, second, third)}) == 3
        with servers.restarted(third):
            assert third.value("SELECT 1") == 1


def test_what_initdb_refuses_is_not_kept(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    monkeypatch.setenv("INITDB_COPIES", str(kept))
    run = initdbs._instead(datadir._run)
    argv = datadir.initdb_argv(cluster.bin, tmp_path / "data", "no_such_locale")
    assert "locale" in run(argv, tmp_path, for_server(tmp_path / "data"))
    assert list(kept.iterdir()) == []

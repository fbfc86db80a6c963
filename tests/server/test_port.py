"""Ports for servers that tests and tasks start."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest

from pgtasks.server.embedded import port


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that says which ports clients get."""
    file = tmp_path / "ip_local_port_range"
    monkeypatch.setattr(port, "_EPHEMERAL", file)
    return file


def test_it_is_none_that_a_client_gets(kernel: Path) -> None:
    kernel.write_text("20490\t60999\n")
    assert all(10240 <= port.free_port() < 20490 for _ in range(50))


@pytest.mark.parametrize("content", ["1024 65535", "", "?"])
def test_where_there_is_none_such(kernel: Path, content: str) -> None:
    kernel.write_text(content)
    with socket.create_server(("127.0.0.1", port.free_port())):
        pass


def test_programs_with_the_same_seed_get_others(kernel: Path) -> None:
    numbers = []
    for _ in range(3):
        random.seed(1)
        numbers.append(port.free_port())
    assert len(set(numbers)) > 1


def test_where_all_are_taken(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port, "_is_free", lambda number: False)
    with socket.create_server(("127.0.0.1", port.free_port())):
        pass

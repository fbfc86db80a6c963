"""From a target on paper to one that answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pgtasks.errors import Refused
from pgtasks.reach import reach
from pgtasks.target import Target


def test_connects_nowhere_else_than_over_ssh_where_that_is_said(
    target: Target, tmp_path: Path
) -> None:
    """The server would answer here, and is not the one behind the SSH host."""
    assert reach(target, tmp_path).host == target.host
    with pytest.raises(Refused, match="says ssh: 'ops@db1'"):
        reach(replace(target, ssh="ops@db1"), tmp_path)

"""The fixtures of `tests/`, for trials that are too long for it: `make torture`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_TESTS = Path(__file__).parent.parent / "tests"
sys.path[:0] = [str(_TESTS), str(_TESTS / "support")]
_SPEC = importlib.util.spec_from_file_location("tests_conftest", _TESTS / "conftest.py")
assert _SPEC is not None
assert _SPEC.loader is not None
_CONFTEST = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_CONFTEST)
globals().update({name: it for name, it in vars(_CONFTEST).items() if not name.startswith("__")})

"""What a test may switch off or on in an application, and never where it is protected."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pgtasks.errors import Refused
from pgtasks.service import default, environment
from pgtasks.settings.environment import Environment

if TYPE_CHECKING:
    from flask import Flask

_VARIABLE = "PGTASKS_ENV"
_CSRF = "WTF_CSRF_ENABLED"  # which Flask-WTF looks up in each request
_is_integration_test = False


@contextmanager
def environments() -> Iterator[None]:
    """Put the environment of this process back as it was, and its service."""
    before = os.environ.get(_VARIABLE)
    try:
        with default.set_aside():
            yield
    finally:
        os.environ.pop(_VARIABLE, None)
        if before is not None:
            os.environ[_VARIABLE] = before


def choose(name: str) -> str:
    """Choose an environment within `environments`, and return its normal name.

    Raises Refused for a protected one: what the test does would be done there.
    """
    chosen = environment.of(name)
    _check(chosen, "a test cannot work there")
    os.environ[_VARIABLE] = chosen.name
    default.forget()
    return chosen.name


@contextmanager
def without_csrf(app: Flask) -> Iterator[Flask]:
    """Let forms of an application come without a CSRF token; raises Refused where protected."""
    reason = "its forms keep their CSRF tokens"
    _check(environment.of(default.get_active_env()), reason)
    if "pgtasks" in app.extensions:
        from pgtasks.service.flask import service_of

        _check(service_of(app).environment, reason)
    missing = object()
    before = app.config.get(_CSRF, missing)
    app.config[_CSRF] = False
    try:
        yield app
    finally:
        app.config[_CSRF] = before
        if before is missing:
            del app.config[_CSRF]


@contextmanager
def integration() -> Iterator[None]:
    """Let `is_integration_test` be true; raises Refused where protected."""
    global _is_integration_test
    _check(environment.of(default.get_active_env()), "it has no integration tests")
    before, _is_integration_test = _is_integration_test, True
    try:
        yield
    finally:
        _is_integration_test = before


def is_integration_test() -> bool:
    """Return whether a test with `pgtasks_integration` runs, for what an application leaves out.

    Only such a test can turn it on, no variable and no setting. Raises Refused where the
    environment is protected meanwhile.
    """
    if _is_integration_test:
        _check(environment.of(default.get_active_env()), "it has no integration tests")
    return _is_integration_test


def _check(chosen: Environment, reason: str) -> None:
    if chosen.protected:
        raise Refused(f"environment {chosen.name!r} is protected: {reason}")

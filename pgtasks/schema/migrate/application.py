"""Enter the context of an application that env.py needs, by a setting, or as `flask db` does."""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alembic.script import ScriptDirectory

from pgtasks.errors import BadConfiguration
from pgtasks.schema.migrate.errors import one_line
from pgtasks.schema.migrate.scripts import Scripts


@contextlib.contextmanager
def entered(scripts: Scripts, directory: ScriptDirectory) -> Iterator[None]:
    """Enter the context of the application, if there is one, for the length of a block.

    A factory is called without arguments. What has no `app_context`, as Flask's applications have,
    is made and nothing more: it may set up what env.py imports.
    """
    made = _made(scripts.app) if scripts.app else _of_flask(directory)
    context = getattr(made, "app_context", None)
    with context() if callable(context) else contextlib.nullcontext():
        yield


def _made(place: str) -> Any:
    value = named(place, "app")
    # an application of WSGI or ASGI can be called too, with a request
    is_factory = inspect.isroutine(value) or inspect.isclass(value)
    return value() if is_factory else value


def named(place: str, what: str) -> Any:
    """Return the object at MODULE:NAME, raising BadConfiguration; `what` names the setting."""
    module, _, name = place.partition(":")
    if not module or not name:
        raise BadConfiguration(f"{what} {place!r}, expected MODULE:NAME")
    try:
        value = importlib.import_module(module)
    except ModuleNotFoundError as exc:
        if exc.name and not module.startswith(exc.name):
            raise  # a module that the application needs
        raise BadConfiguration(f"{what} {place!r}: there is no module {exc.name!r}") from None
    for part in name.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            raise BadConfiguration(f"{what} {place!r}: {module} has no {name!r}") from None
    return value


def _of_flask(directory: ScriptDirectory) -> Any:
    """Return the application that Flask finds if env.py uses it, as `flask db` does, else None."""
    text = Path(directory.env_py_location).read_text(encoding="utf-8", errors="replace")
    if "current_app" not in text:
        return None
    try:
        flask = importlib.import_module("flask.cli")
    except ImportError:
        raise BadConfiguration("env.py asks for current_app and flask is not installed") from None
    flask.load_dotenv()
    try:
        return flask.ScriptInfo().load_app()
    except flask.NoAppException as error:
        raise BadConfiguration(
            f"env.py asks for current_app: {one_line(str(error))}: set FLASK_APP, or --app"
        ) from None

"""Database tasks for Python teams on PostgreSQL: `inv db.backup`, `inv db.restore`, and more.

A project's tasks.py needs `namespace`, its own tasks `task` and `run` (see `pgtasks.cli.task`), its
application the rest (see `pgtasks.service.environment`). `current_env` is what `discover()` returns
at the moment it is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgtasks.report.version import __version__ as __version__

if TYPE_CHECKING:
    from pgtasks.cli.call import call
    from pgtasks.cli.task import run, task
    from pgtasks.service.environment import (
        discover,
        get_config,
        get_database_url,
        is_development,
        is_production,
        is_testing,
        normalize,
        set_environment,
    )

    current_env: str

__all__ = [
    "call",
    "current_env",
    "discover",
    "get_config",
    "get_database_url",
    "is_development",
    "is_production",
    "is_testing",
    "namespace",
    "normalize",
    "run",
    "set_environment",
    "task",
]


def namespace(file: str) -> object:
    """Return the task tree for a project's tasks.py: `ns = pgtasks.namespace(__file__)`."""
    try:
        from pgtasks.cli.tree import namespace as assembled

        return assembled(file)
    except KeyboardInterrupt:
        from pgtasks.cli import early
        from pgtasks.cli.tree import is_inv

        if is_inv():
            raise early.ended() from None
        raise


def __getattr__(name: str) -> Any:
    # `inv --list` and TAB import this package, so the interface for applications is imported late
    if name in ("run", "task"):
        from pgtasks.cli import task

        return getattr(task, name)
    if name == "call":
        from pgtasks.cli.call import call

        return call
    if name == "current_env":
        return _application().discover()
    if name in __all__:
        return getattr(_application(), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _application() -> Any:
    from pgtasks.service import environment

    return environment

"""The interface for applications and their tests.

    from pgtasks.service import get_db_session

    with get_db_session() as session:
        session.add(Patient(name="Ada"))

environment    the environment of a process, its settings, the URL of its database
signing        the keys that an application signs with
default        the functions above all of this, on the service of the process
database       DatabaseService: a pool, and units of work on it
unit           one session, one transaction, blocks within blocks
address        the URL of its database
control        refuse statements that would end a transaction or let a read-only block write
session_state  close a connection whose session a block has changed
lasting        the statements whose effect outlives their transaction
engine         the pool, its timeouts, and connections that come back
connections    open a connection, and say what it means that it cannot be opened
liveness       notice a connection of the pool that has ended
deadline       cut off connections whose server is silent
patience       connect to a server that is becoming available
admission      refuse a database that is another environment's
entities       copies without a session, plain data for JSON
changes        settings that change while an application runs
watch          look at the files of the settings
forks          what a forked process does with what it has inherited
statements     log statements with their time and caller
health         the health of the database, as a probe asks for it
flask          the service in a Flask application
pytest_plugin  fixtures of pytest: a database for each test
testing/       the server, the template and the databases of tests
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgtasks.service.changes import Change
    from pgtasks.service.database import DatabaseService
    from pgtasks.service.default import (
        check_health,
        get_active_env,
        get_database_url,
        get_database_url_for_env,
        get_db_engine,
        get_db_session,
        initialize_database,
        reload,
        run,
        set_debug_mode,
        subscribe,
        use_nested_transactions,
        watch_settings,
    )
    from pgtasks.service.entities import NotLoaded
    from pgtasks.service.entities import detached_copy as get_detached_copy
    from pgtasks.service.entities import entity_dict as get_entity_dict
    from pgtasks.service.environment import get_config, get_security_settings
    from pgtasks.service.health import Health
    from pgtasks.service.signing import get_signing_keys
    from pgtasks.service.testing.switches import is_integration_test
    from pgtasks.service.unit import CommitUnknown
    from pgtasks.settings.security import Security

    SECURITY_SETTINGS: Security

__all__ = [
    "SECURITY_SETTINGS",
    "Change",
    "CommitUnknown",
    "DatabaseService",
    "Health",
    "NotLoaded",
    "Security",
    "check_health",
    "get_active_env",
    "get_config",
    "get_database_url",
    "get_database_url_for_env",
    "get_db_engine",
    "get_db_session",
    "get_detached_copy",
    "get_entity_dict",
    "get_security_settings",
    "get_signing_keys",
    "initialize_database",
    "is_integration_test",
    "reload",
    "run",
    "set_debug_mode",
    "subscribe",
    "use_nested_transactions",
    "watch_settings",
]

_ELSEWHERE = {
    "Change": ("changes", "Change"),
    "CommitUnknown": ("unit", "CommitUnknown"),
    "DatabaseService": ("database", "DatabaseService"),
    "Health": ("health", "Health"),
    "NotLoaded": ("entities", "NotLoaded"),
    "get_config": ("environment", "get_config"),
    "get_security_settings": ("environment", "get_security_settings"),
    "get_signing_keys": ("signing", "get_signing_keys"),
    "is_integration_test": ("testing.switches", "is_integration_test"),
    "get_detached_copy": ("entities", "detached_copy"),
    "get_entity_dict": ("entities", "entity_dict"),
}


def __getattr__(name: str) -> Any:
    # SQLAlchemy takes a quarter of a second, and the tasks do not use it
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "Security":
        from pgtasks.settings.security import Security

        return Security
    if name == "SECURITY_SETTINGS":  # at each access, since files and the environment may change
        from pgtasks.service.environment import get_security_settings

        return get_security_settings()
    module, name_there = _ELSEWHERE.get(name, ("default", name))
    return getattr(import_module(f"{__name__}.{module}"), name_there)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

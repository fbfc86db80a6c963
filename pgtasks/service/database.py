"""The way of an application to its database: a pool, and units of work on it."""

from __future__ import annotations

import functools
import random
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import NullPool

from pgtasks.service import (
    address,
    control,
    deadline,
    engine,
    environment,
    forks,
    session_state,
    statements,
)
from pgtasks.service.changes import Change, Changes, Subscriber
from pgtasks.service.connections import sqlstate
from pgtasks.service.unit import Inner, Outermost, Unit, UnitSession, current
from pgtasks.service.watch import Watch
from pgtasks.settings.blocks import Pool
from pgtasks.settings.environment import Environment
from pgtasks.settings.target import Target, from_environment

Result = TypeVar("Result")
# the transaction was rolled back for the sake of others: serialization failure, deadlock
_AGAIN = ("40001", "40P01")
# seconds before a unit is repeated: the other one of a deadlock goes first, and who ends the
# sessions of a database that is swapped may not be done yet
_PAUSES = {True: (0.05, 0.15), False: (0.01, 0.05)}
PROBE = 2  # seconds that a check of health waits to be let in, and then for the answers


class DatabaseService:
    """The database of one environment, for an application.

    `env` is an environment of the project, or a resolved one, by default that of the process; `url`
    replaces its database. `nested` is whether a block within a block is a savepoint, or part of the
    outer one. Further options are those of SQLAlchemy's create_engine, in place of the settings in
    `pool`.
    Nothing is opened and no password asked for before the first use. Raises Refused for an unknown
    environment, BadConfiguration for wrong settings.
    """

    def __init__(
        self,
        env: str | Environment | None = None,
        *,
        url: str = "",
        nested: bool = True,
        **options: Any,
    ) -> None:
        project = environment.find_project()
        known = env if isinstance(env, Environment) else environment.of(env, project)
        self.environment: Environment = known
        self.root = project.root  # the process may go elsewhere
        self.nested = nested
        self._url, self._options = url, options
        self._renew()
        forks.in_children(self, DatabaseService._renew)
        self._engine: Engine | None = None
        self._makers: dict[bool, sessionmaker[UnitSession]] = {}
        self._opened: ContextVar[Unit | None] = ContextVar("pgtasks.service", default=None)
        self.statements = statements.Log()
        self._changes = Changes()
        self._watch: Watch | None = None

    def _renew(self) -> None:
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The name of the environment."""
        return self.environment.name

    @property
    def engine(self) -> Engine:
        """The engine, which is made at the first use."""
        with self._lock:
            if self._engine is None:
                self._engine = self._created()
            return self._engine

    @property
    def target(self) -> Target:
        """The target of the environment, for the guard."""
        return from_environment(self.environment)

    @property
    def pool(self) -> Pool:
        """The settings of the pool."""
        return self.environment.settings.pool

    @functools.cached_property
    def probe(self) -> Engine:
        """An engine for checks of health: no pool, no patience, no long wait."""
        pool = replace(self.pool, patience=0, statement_timeout=PROBE, check_stamp=False)
        options = {"poolclass": NullPool, "connect_args": {"connect_timeout": str(PROBE)}}
        probe = engine.create(self.url, self.target, pool, options)
        deadline.listen(probe, PROBE)
        return probe

    @functools.cached_property
    def heads(self) -> frozenset[str] | None:
        """The revisions of the project's newest migrations, None if it has none."""
        from alembic.script import ScriptDirectory

        from pgtasks.schema.migrate import scripts

        found = scripts.find(environment.find_project(self.root))
        if found is None:
            return None
        return frozenset(ScriptDirectory.from_config(scripts.config(found)).get_heads())

    def _created(self) -> Engine:
        made = engine.create(self.url, self.target, self.pool, self._options)
        self.statements.listen(made)
        control.listen(made)
        session_state.listen(made)
        # a session is closed for good: what is done with it later would never be committed;
        # read-only is only sent to the server as a transaction begins, which costs no round trip
        writes = made.execution_options(**control.UNIT)
        reads = writes.execution_options(postgresql_readonly=True)
        self._makers = {
            read_only: sessionmaker(
                bind, class_=UnitSession, expire_on_commit=False, close_resets_only=False
            )
            for read_only, bind in {False: writes, True: reads}.items()
        }
        return made

    @property
    def url(self) -> URL:
        """The URL of the database, with its password; a password_command is run."""
        return address.named(self._url or self._url_of_settings(), self.pool.driver)

    def _url_of_settings(self) -> str:
        return environment.url(self.environment, environment.find_project(self.root))

    def session(self, *, read_only: bool = False, nested: bool | None = None) -> Outermost | Inner:
        """Open a block with a session; it commits as the outermost block is left.

        With `read_only` the server refuses writes.
        """
        if (unit := self.unit) is not None:
            savepoint = self.nested if nested is None else nested
            return Inner(unit, read_only=read_only, savepoint=savepoint)
        make = self._makers.get(read_only) or functools.partial(self._made, read_only)
        return Outermost(self._opened, make, read_only=read_only)

    def _made(self, read_only: bool) -> UnitSession:
        """Return the first session, for which the engine is made."""
        with self._lock:  # settings that change take the engine away
            if self._engine is None:
                self._engine = self._created()
            make = self._makers[read_only]
        return make()

    def run(
        self,
        unit: Callable[[Session], Result],
        *,
        read_only: bool = False,
        retries: int = 1,
    ) -> Result:
        """Call `unit` with a session and return its result; commit, and repeat what may pass.

        It is called once more where its connection was lost, or the server rolled it back for the
        sake of others, before its COMMIT was under way. So it must change nothing but the database.
        One that has committed a part of its work by itself is not repeated.
        Within an open block it is a part of that, and not repeated.
        """
        if self.unit is not None:
            retries = 0
        while True:
            block = self.session(read_only=read_only)
            try:
                with block as session:
                    return unit(session)
            except DBAPIError as exc:
                if not retries or block.committed or not _may_pass(exc):
                    raise
                retries -= 1
                lost = exc.connection_invalidated
            pause(lost=lost)

    @property
    def unit(self) -> Unit | None:
        """The open unit of this thread and task."""
        return current(self._opened)

    def abandon(self) -> None:
        """Roll back the open unit of this thread and task."""
        if (unit := self.unit) is not None:
            self._opened.set(None)
            unit.session.end()

    def reload(self) -> Change:
        """Read the settings again, use them from the next block on, and return what has changed.

        Raises BadConfiguration for wrong ones, which changes nothing.
        """

        def read() -> Environment:
            return environment.of(self.name, environment.find_project(self.root))

        return self._changes.reload(self, read)

    def adopt(self, settings: Environment, *, reconnect: bool) -> None:
        """Use other settings, with `reconnect` in connections that the next blocks open."""
        with self._lock:
            self.environment = settings
            if not reconnect:
                return
            before, self._engine, self._makers = self._engine, None, {}
            self.__dict__.pop("probe", None)
        if before is not None:
            before.dispose()  # open blocks keep their connections to their end

    def subscribe(self, call: Subscriber) -> Callable[[], None]:
        """Call a function with the `Change` after each one; return what ends that."""
        return self._changes.subscribe(call)

    def watch(self, seconds: float = 2.0) -> None:
        """Look at the files of the settings every few seconds, and reload after a change.

        A daemon thread does so, in forked processes too. Wrong settings are logged in a line, and
        those before stay.
        """
        self.unwatch()
        self._watch = Watch(lambda: environment.find_project(self.root), self.reload, seconds)

    def unwatch(self) -> None:
        """Stop watching the files."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def dispose(self) -> None:
        """Close the connections that no block uses; the next block opens new ones."""
        if self._engine is not None:
            self._engine.dispose()


def pause(*, lost: bool) -> None:
    """Wait before work is repeated whose connection was `lost`, or that met other work."""
    time.sleep(random.uniform(*_PAUSES[lost]))  # nosec B311: spreads the attempts


def _may_pass(exc: DBAPIError) -> bool:
    return exc.connection_invalidated or sqlstate(exc.orig) in _AGAIN

"""The schema of a copy: pg_dump of everything but rows, and pg_restore of it in two parts.

One archive holds the whole schema, because two would not know what depends on what. What is in the
first part is restored before the rows; comments and grants come after them, because a grant may
take from an owner the right to write into its own table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pgtasks.host import tools
from pgtasks.host.base import Command
from pgtasks.host.tools import Toolset
from pgtasks.server import connection, session, statistics
from pgtasks.server.dump.pg_dump import LOCK_WAIT
from pgtasks.server.proof.toc import Entry
from pgtasks.settings.target import Target

_PRE_DATA = 2  # the section of what rows need
# The large objects alone: a schema that is chosen and left out again leaves nothing else.
LARGE_OBJECTS = (
    *("--large-objects", "--schema=information_schema", "--exclude-schema=information_schema"),
)
_LARGE_OBJECTS_15 = ("--blobs", *LARGE_OBJECTS[1:])
_WITHOUT_MESSAGES_OF_ANOTHER_LANGUAGE = {"LC_ALL": "C"}


def large_objects_options(toolset: Toolset) -> tuple[str, ...]:
    """Return pg_dump's options for the large objects alone."""
    return LARGE_OBJECTS if toolset.major >= 16 else _LARGE_OBJECTS_15


def schema_options(toolset: Toolset) -> tuple[str, ...]:
    """Return pg_dump's options for all but rows; --schema-only would leave REFRESH out."""
    none = "--no-large-objects" if toolset.major >= 16 else "--no-blobs"
    return ("--section=pre-data", "--section=post-data", none)


@dataclass(frozen=True)
class Dump:
    """A pg_dump within an exported snapshot; `encoding` is the database's."""

    toolset: Toolset
    database: str
    snapshot: str
    encoding: str

    def _argv(self, *options: str) -> tuple[str, ...]:
        return (
            self.toolset.tool("pg_dump"),
            "--format=custom",
            "--compress=0",
            f"--encoding={'SQL_ASCII' if self.encoding == 'SQL_ASCII' else 'UTF8'}",
            f"--snapshot={self.snapshot}",
            f"--lock-wait-timeout={LOCK_WAIT * 1000}",
            "--no-password",
            "--no-sync",
            *options,
            f"--dbname={tools.dbname(self.database)}",
        )

    def schema_command(self, path: Path, env: Mapping[str, str]) -> Command:
        """Return the command that writes the schema into a file."""
        argv = self._argv("--verbose", *schema_options(self.toolset), f"--file={path}")
        return self._command(argv, env)

    def large_objects_command(self, env: Mapping[str, str]) -> Command:
        """Return the command that writes the large objects to stdout."""
        return self._command(self._argv(*large_objects_options(self.toolset)), env)

    @staticmethod
    def _command(argv: tuple[str, ...], env: Mapping[str, str]) -> Command:
        return Command(argv, {**env, **_WITHOUT_MESSAGES_OF_ANOTHER_LANGUAGE})


@dataclass(frozen=True)
class Load:
    """The programs that load into a side database; `target` is it, with the role of the load.

    With `owner`, owners and grants are left out, and everything belongs to that role.
    """

    toolset: Toolset
    target: Target
    encoding: str
    jobs: int
    owner: str = ""
    no_tablespaces: bool = False

    def restore_command(
        self, env: Mapping[str, str], path: Path, use_list: str, *, serial: bool = False
    ) -> Command:
        """Return the command that restores the listed entries of an archive."""
        jobs = 1 if serial else self.jobs
        return self._restore(env, f"--jobs={jobs}", f"--use-list={use_list}", str(path))

    def stream_command(self, env: Mapping[str, str]) -> Command:
        """Return the command that restores an archive from stdin."""
        return self._restore(env)

    def _restore(self, env: Mapping[str, str], *options: str) -> Command:
        argv = [self.toolset.tool("pg_restore"), "--exit-on-error", "--no-password"]
        argv += ["--no-tablespaces"] if self.no_tablespaces else []
        if self.owner:
            argv += ["--no-owner", "--no-privileges", f"--role={self.owner}"]
        argv.append(f"--dbname={tools.dbname(self.target.database)}")
        return self.command((*argv, *options), env)

    def analyze_command(self, env: Mapping[str, str], tables: list[str]) -> Command:
        """Return the command that gathers the statistics of tables, named as SQL has them."""
        argv = [self.toolset.tool("vacuumdb"), "--analyze-only", "--quiet", "--no-password"]
        argv += [f"--jobs={self.jobs}", *statistics.flags(tables)]
        argv += [f"--dbname={tools.dbname(self.target.database)}"]
        return self.command(tuple(argv), env)

    def command(self, argv: tuple[str, ...], env: Mapping[str, str]) -> Command:
        """Return a command with the settings of the load.

        Without synchronous_commit: the commit of the swap flushes everything before it.
        """
        settings = dict.fromkeys(("synchronous_commit", "default_transaction_read_only"), "off")
        if self.target.role:
            settings["role"] = self.target.role
        own = filter(None, (env.get("PGOPTIONS"), session.joined(settings)))
        options = " ".join(own) + connection.of_programs(self.target)
        env = {**env, "PGOPTIONS": options}
        if self.encoding == "SQL_ASCII":  # whose names may be invalid in any other
            env["PGCLIENTENCODING"] = "SQL_ASCII"
        return Command(argv, env)


def has_password(entry: Entry) -> bool:
    """Return whether an entry may hold a password: a subscription, a user mapping with options."""
    if entry.desc == "SUBSCRIPTION":
        return True
    return entry.desc == "USER MAPPING" and b" OPTIONS (" in entry.definition


def before_rows(archive: Iterable[Entry]) -> list[Entry]:
    """Return what rows need."""
    return [entry for entry in archive if entry.section == _PRE_DATA]


def after_rows(archive: Iterable[Entry], built: Collection[int]) -> list[Entry]:
    """Return everything else, but for the entries that are built already."""
    return [entry for entry in archive if entry.section != _PRE_DATA and entry.number not in built]


def same(before: Sequence[Entry], now: Sequence[Entry]) -> bool:
    """Return whether two archives hold the same."""
    return [_parts(entry) for entry in before] == [_parts(entry) for entry in now]


def _parts(entry: Entry) -> tuple[str, ...]:
    return (entry.desc, entry.namespace, entry.tag, entry.owner, entry.digest)

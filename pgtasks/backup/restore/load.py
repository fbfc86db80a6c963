"""Load a side database: pg_restore, statistics."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace

from pgtasks.backup.restore import growth, rolemap, statistics
from pgtasks.backup.restore.plan import (
    RestorePlan,
    analyze_argv,
    load_command,
    restore_argv,
)
from pgtasks.database import checks, leaving
from pgtasks.database.rights import Rights
from pgtasks.errors import Failed, NotProven, PgtasksError, Unreachable
from pgtasks.host import pipeline, tools
from pgtasks.host.base import Command, Host
from pgtasks.report import Console
from pgtasks.report.boundaries import boundary
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.dump import passes, pg_dump
from pgtasks.server.dump.passes import Pass
from pgtasks.server.proof.early import EarlyReader
from pgtasks.server.proof.toc import PRE_DATA, Entry
from pgtasks.server.statistics import Name, gather_parents, missing

_POLL = 0.2  # seconds between looks at the side database's size
_LOOKS_PER_SIZE = 5


class Deadlocked(Failed):
    """The jobs of pg_restore waited for each other."""


class Denied(Failed):
    """The role of the load may not restore something."""


_NOT_ALLOWED = "this role may not restore it, see --no-owner"
# what --no-owner leaves out: owners and grants
_OF_OWNERS = (
    r"must be owner|must be able to SET ROLE|permission denied to set (?:session|role)|"
    r"Command was: (?:GRANT|REVOKE|SET SESSION|ALTER [^;]* OWNER TO)"
)
# The meaning of pg_restore's messages: pattern, class, way out.
_CLASSES: Sequence[tuple[str, type[PgtasksError], str]] = (
    (r"No space left on device|could not extend file", Failed, "the server's disk is full"),
    (
        r"terminating connection|server closed the connection|connection to server .* lost|"
        r"no connection to the server|the database system is",
        Unreachable,
        "the server ended the connection",
    ),
    (r"deadlock detected", Deadlocked, "its jobs waited for each other"),
    (r'role "(?P<name>[^"]+)" does not exist', Failed, "a role is missing, see --no-owner"),
    (r'extension "(?P<name>[^"]+)" is not available', Failed, "an extension is missing"),
    (
        r"must be owner|permission denied|must be (?:a )?superuser|must be able to SET ROLE|"
        r"[Oo]nly superusers? (?:can|may)|SUPERUSER attribute",
        Denied,
        _NOT_ALLOWED,
    ),
    (
        r"could not read from input file|corrupt|unexpected end of file",
        NotProven,
        "the dump is cut",
    ),
)


def run_restore(
    plan: RestorePlan,
    host: Host,
    conn: Connection,
    console: Console,
    *,
    analyze: bool = True,
    early: EarlyReader | None = None,
) -> None:
    """Run pg_restore into the side database, translating its errors, and gather statistics.

    `early` is told of each table whose rows are in.
    """
    log = RestoreLog(plan.archive, early) if early else None
    with host.passfile(plan.loading) as passfile:
        env = tools.environment(host.view(plan.loading), passfile)
        env |= RestoreLog.LANGUAGE if log else {}
        for run in _passes(plan):
            with _argv(plan, run, host, verbose=log is not None) as argv:
                _watch(plan, host, conn, load_command(plan, argv, env), console, log)
            _drop_checks(plan, run)
        _rename(plan)
        boundary("restore.loaded")
    if analyze:
        gather(plan, host, statistics.carried(plan, plan.left.kept(plan.archive)))


def gather(plan: RestorePlan, host: Host, known: frozenset[Name] = frozenset()) -> None:
    """Gather the statistics of the side database's tables, but those that are `known`."""
    with connection.session(plan.loading, read_only=True, purpose="db.restore") as conn:
        found = missing(conn, known)
    if found.tables:
        with host.passfile(plan.loading) as passfile:
            env = tools.environment(host.view(plan.loading), passfile)
            pipeline.run(host, [load_command(plan, analyze_argv(plan, found.tables), env)])
    gather_parents(plan.loading, found.parents, purpose="db.restore")


def load_schema(plan: RestorePlan, host: Host) -> None:
    """Run pg_restore into the side database for the schema alone."""
    with host.passfile(plan.loading) as passfile:
        env = tools.environment(host.view(plan.loading), passfile)
        for run in _passes(plan):
            with _argv(plan, run, host, schema_only=True) as argv:
                pipeline.run(host, [load_command(plan, argv, env)])
            _drop_checks(plan, run)
        _rename(plan)


def _drop_checks(plan: RestorePlan, run: Pass) -> None:
    """Drop the constraints that are left out, after the run that has made all tables."""
    if plan.left.checks and any(entry.section == PRE_DATA for entry in run.entries):
        with connection.session(plan.loading, purpose="db.restore") as conn:
            checks.drop(conn, plan.left.checks)


def _passes(plan: RestorePlan) -> list[Pass]:
    kept = plan.left.kept(plan.archive)
    apart = {each.number for each in plan.role_map.named(kept)}
    loaded = [entry for entry in kept if entry.number not in apart]
    if not plan.left.checks:
        return passes.passes(loaded)
    before = [entry for entry in loaded if entry.section == PRE_DATA]
    later = passes.passes([entry for entry in loaded if entry.section != PRE_DATA])
    return [Pass(before, serial=True), *later]


def _rename(plan: RestorePlan) -> None:
    """Run what pg_restore left out, because it names roles that others take the place of."""
    if entries := plan.renamed:
        with connection.session(plan.loading, purpose="db.restore") as conn:
            rolemap.run(conn, entries)


@contextmanager
def _argv(
    plan: RestorePlan,
    run: Pass,
    host: Host,
    *,
    schema_only: bool = False,
    verbose: bool = False,
) -> Iterator[tuple[str, ...]]:
    """Yield pg_restore's argv, with a list unless it is to load everything."""
    whole = len(run.entries) == len(plan.archive)
    plan = replace(plan, jobs=1) if run.serial else plan
    with nullcontext("") if whole else host.lend(run.listed) as use_list:
        yield restore_argv(plan, use_list=use_list, schema_only=schema_only, verbose=verbose)


class RestoreLog:
    """The log of pg_restore with several jobs, read line by line from its stderr."""

    LANGUAGE: Mapping[str, str] = {"LC_ALL": "C"}
    _FINISHED = re.compile(r"^pg_restore: finished item (\d+) TABLE DATA ")

    def __init__(self, archive: Sequence[Entry], early: EarlyReader) -> None:
        rows = (entry for entry in archive if entry.desc == "TABLE DATA")
        self._tables = {entry.number: (entry.namespace, entry.tag) for entry in rows}
        self._early = early

    def hear(self, line: str) -> None:
        """Process one line."""
        if (match := self._FINISHED.match(line)) and (table := self._tables.get(int(match[1]))):
            self._early.arrive(*table)


def _watch(
    plan: RestorePlan,
    host: Host,
    conn: Connection,
    command: Command,
    console: Console,
    log: RestoreLog | None,
) -> None:
    total = plan.backup.manifest.database_bytes
    looks = 0
    with (
        pipeline.Pipeline(host, [command], on_line=log.hear if log else None) as running,
        console.progress("restore", total) as progress,
    ):
        boundary("restore.loading")
        while not running.wait(_POLL):
            looks += 1
            if looks % _LOOKS_PER_SIZE == 0:
                growth.refuse(plan, conn, host)
            if looks % _LOOKS_PER_SIZE == 0 and progress.due:
                progress.update(growth.size(conn, plan.side))
        try:
            running.check()
        except Failed as exc:
            failure = Failed(exc.message, hint=pg_dump.faults(exc.hint.splitlines()) or exc.hint)
            raise classified(failure, plan.archive, plan.rights) from None


def classified(
    failure: Failed, archive: Sequence[Entry] = (), rights: Rights | None = None
) -> PgtasksError:
    """Translate an error of pg_restore, keeping its message as the hint.

    If an entry of `archive` after the rows failed, the error names it as --leave-out takes it. If
    the load had only the owner's `rights` and they did not suffice, it names --as-superuser.
    """
    meanings = ((kind, how) for pattern, kind, how in _CLASSES if re.search(pattern, failure.hint))
    kind, meaning = next(meanings, (Failed, ""))
    held = rights if rights and rights.held and meaning == _NOT_ALLOWED else None
    if held:
        meaning = _ways(held, failure.hint)
    entry = _failed(failure.hint, archive) if kind in (Failed, Denied) else None
    flag = leaving.flag(entry) if entry else ""
    if flag:
        return Failed(
            f"pg_restore failed after the rows{_reason(failure.hint)}: {flag} restores all but that"
            f"{', --as-superuser all of it' if held else ''}",
            hint=failure.hint,
        )
    if kind is Failed and not meaning and (way := _at_rows(failure.hint, archive)):
        words = f"pg_restore failed at the rows{_reason(failure.hint)}: {way}"
        return Failed(words, hint=failure.hint)
    return kind(f"pg_restore failed, {meaning}", hint=failure.hint) if meaning else failure


def _reason(words: str) -> str:
    why = re.search(r"ERROR:\s+(.*)", words)
    return f" ({why[1]})" if why else ""


def _at_rows(words: str, archive: Sequence[Entry]) -> str:
    """Return the way on where rows cannot be loaded, empty if there is none."""
    if broken := checks.broken(words, archive):
        flags = " ".join(f"--leave-out {shlex.quote(str(check))}" for check in broken)
        return f"{flags} restores them without that"
    flag = leaving.rows_of(words, archive)
    return f"{flag} restores all but the rows of that table" if flag else ""


def _ways(rights: Rights, words: str) -> str:
    """Return the ways out if a load with the rights of a plain owner was denied something."""
    without = not rights.mapped and re.search(_OF_OWNERS, words)
    other = ", --no-owner goes without owners and grants" if without else ""
    way = "--as-superuser restores it with a superuser's rights"
    return f"{rights.role!r} may not restore it: {way}{other}"


def _failed(words: str, archive: Sequence[Entry]) -> Entry | None:
    """Return the entry whose statement pg_restore names in its error."""
    command = re.search(r"^\s*Command was: (.*?)\s*(?:^\s*pg_restore: |\Z)", words, re.S | re.M)
    if command is None:
        return None
    # it prints each line indented; what may be a password is replaced
    statement = _in_one_line(command[1]).removesuffix(" ***")
    for entry in archive:
        if statement in _in_one_line(entry.definition.decode("utf-8", "backslashreplace")):
            return entry
    return None


def _in_one_line(text: str) -> str:
    return " ".join(text.split())

"""Describe a database by the table of contents that pg_dump writes of it."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from pgtasks.errors import Failed
from pgtasks.host import pipeline, tools
from pgtasks.host.base import Command, Host
from pgtasks.host.tools import Toolset
from pgtasks.host.worker import Worker
from pgtasks.server import connection, session
from pgtasks.server.proof import toc
from pgtasks.server.proof.toc import Entry
from pgtasks.settings.target import Target

_SLICE = 0.5  # seconds of one wait, so that signals are handled


@contextmanager
def describing(
    target: Target,
    host: Host,
    toolset: Toolset,
    *,
    encoding: str,
    options: Sequence[str] = (),
) -> Iterator[Callable[[], Sequence[Entry] | Failed]]:
    """Run pg_dump on a database during the block; the yielded function waits for it.

    It has the rights of the target's role, and is ended when its table of contents is complete,
    which is before any row. `encoding` is the database's, `options` are more options of pg_dump.
    """
    with host.passfile(target) as passfile:
        env = tools.environment(host.view(target), passfile, read_only=True)
        role = {"role": target.role} if target.role else {}
        settings = (env["PGOPTIONS"], session.joined(role))
        env["PGOPTIONS"] = " ".join(filter(None, settings)) + connection.of_programs(target)
        command = Command((*argv(toolset, target.database, encoding=encoding), *options), env)
        reader, writer = os.pipe()
        results: queue.SimpleQueue[list[Entry] | Failed] = queue.SimpleQueue()
        with os.fdopen(reader, "rb") as source:
            try:
                running = pipeline.Pipeline(host, [command], stdout=writer)
            finally:
                os.close(writer)
            reading = Worker(_read, source, results)
            reading.start()
            with running:

                def result() -> Sequence[Entry] | Failed:
                    entries = _awaited(reading, results)
                    if isinstance(entries, toc.Truncated):
                        try:
                            running.check()
                        except Failed as exc:
                            return exc
                    return entries

                yield result


def argv(toolset: Toolset, name: str, *, encoding: str) -> tuple[str, ...]:
    """Return the argv of pg_dump; its environment names the server."""
    return (
        toolset.tool("pg_dump"),
        "--format=custom",
        "--compress=0",
        f"--encoding={'SQL_ASCII' if encoding == 'SQL_ASCII' else 'UTF8'}",
        "--no-password",
        f"--dbname={tools.dbname(name)}",
    )


def _read(source: IO[bytes], results: queue.SimpleQueue[list[Entry] | Failed]) -> None:
    try:
        results.put(toc.read(source))
    except Failed as exc:
        results.put(exc)
    except (OSError, ValueError) as exc:  # the block ended first
        results.put(Failed(str(exc)))
    finally:
        source.close()  # this ends pg_dump, which continues with rows


def _awaited(
    reading: Worker, results: queue.SimpleQueue[list[Entry] | Failed]
) -> list[Entry] | Failed:
    while not reading.wait(_SLICE):
        pass
    return results.get()


def described(
    target: Target, host: Host, toolset: Toolset, *, encoding: str, options: Sequence[str] = ()
) -> list[Entry]:
    """Return the entries of a database from pg_dump, raising Failed."""
    with describing(target, host, toolset, encoding=encoding, options=options) as built:
        entries = built()
    if isinstance(entries, Failed):
        raise entries
    return list(entries)

"""A side database that is built and swapped in."""

from __future__ import annotations

from servers import Cluster

from pgtasks.database import properties, side, swap
from pgtasks.server import connection
from pgtasks.server.identity import system_identifier
from pgtasks.server.lock import Lock
from pgtasks.server.stamp import Stamp
from pgtasks.settings.target import Target


def prepare(cluster: Cluster, name: str, content: str) -> Target:
    target = cluster.target(name)
    prepare_side(target, content)
    return target


def content(target: Target) -> str:
    with connection.session(target) as conn:
        return connection.value(conn, "SELECT text FROM public.content")


def mark(lock: Lock, run: str) -> Stamp:
    system = system_identifier(lock.connection)
    return Stamp("dev", lock.target.database, system, origin="test", role="new", run=run)


def build_side(lock: Lock, text: str) -> tuple[str, Stamp, properties.DatabaseProperties]:
    facts = properties.read(lock.connection, lock.target.database)
    made = mark(lock, side.new_run_id(lock.connection, lock.target))
    name = side.create(lock.connection, lock.target, facts, made, owner=facts.owner)
    prepare_side(lock.target.at(name), text)
    for statement in properties.laying_statements(name, facts):
        connection.execute(lock.connection, statement)
    return name, made, facts


def prepare_side(target: Target, text: str) -> None:
    with connection.session(target) as conn:
        connection.execute(conn, "CREATE TABLE public.content (text text)")
        connection.execute(conn, "INSERT INTO public.content VALUES (%s)", (text,))


def swap_in(lock: Lock, text: str = "new") -> swap.Swapped:
    name, made, facts = build_side(lock, text)
    return swap.swap_in(lock, lock.target, name, made, facts=facts, replaces=True)

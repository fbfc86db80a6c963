"""A schema that is altered without pause, so that a backup of it shows one moment or none.

Each step is one transaction: it renews, exchanges, drops or makes anew tables, columns, partitions,
sequences, schemas and what hangs on them, gives every row its own number (`gen`), and writes into
`public.ledger` what the whole schema is then. What is restored has to be what its ledger says.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg2
from servers import Cluster

from backups import differences, restored, said
from pgtasks.errors import Failed

_SCHEMAS = ("east", "west")
_TABLES = 3  # in each schema
_MILLION = 1_000_000  # sequences are told apart by their millions

SETUP = """
CREATE TABLE public.ledger (gen int, state text, sequences jsonb);
INSERT INTO public.ledger VALUES (0, '', '{}');

CREATE FUNCTION public.state() RETURNS text LANGUAGE plpgsql SET search_path = '' AS $$
DECLARE it record; line text; lines text[] := '{}';
BEGIN
    FOR it IN SELECT c.oid, n.nspname, c.relname FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('east', 'west') AND c.relkind = 'r' ORDER BY 2, 3
    LOOP
        EXECUTE format('SELECT concat_ws('' '', %L, (SELECT string_agg(a.attname, '','' ORDER BY'
            ' a.attnum) FROM pg_attribute a WHERE a.attrelid = %s AND a.attnum > 0 AND NOT'
            ' a.attisdropped), string_agg(r::text, '' '' ORDER BY r::text)) FROM ONLY %I.%I r',
            it.oid::regclass::text, it.oid, it.nspname, it.relname) INTO line;
        lines := lines || line;
    END LOOP;
    RETURN array_to_string(lines || ARRAY(
        SELECT pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN ('east', 'west')
        UNION ALL SELECT c.oid::regclass || ' ' || pg_get_viewdef(c.oid) FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('east', 'west') AND c.relkind = 'v'
        UNION ALL SELECT p.oid::regprocedure::text FROM pg_proc p
        JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname IN ('east', 'west')
        UNION ALL SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t WHERE NOT t.tgisinternal
        UNION ALL SELECT inhrelid::regclass || ' of ' || inhparent::regclass FROM pg_inherits
        ORDER BY 1), E'\\n');
END $$;

CREATE FUNCTION public.touched() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';

CREATE FUNCTION public.advance() RETURNS void LANGUAGE plpgsql SET search_path = '' AS $$
DECLARE it record; place text; value bigint; found jsonb := '{}';
BEGIN
    UPDATE public.ledger SET gen = gen + 1;
    FOR it IN SELECT c.oid::regclass AS name, c.relkind FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('east', 'west') AND c.relkind IN ('r', 'S')
    LOOP
        IF it.relkind = 'S' THEN
            found := found || jsonb_build_object(it.name::text, nextval(it.name));
        ELSE
            EXECUTE format('UPDATE ONLY %s SET gen = (SELECT gen FROM public.ledger)', it.name);
        END IF;
    END LOOP;
    UPDATE public.ledger SET state = public.state(), sequences = found;
END $$;
"""


def set_up(cluster: Cluster, database: str) -> None:
    """Make the schema in an empty database."""
    cluster.psql(database, SETUP)
    tag = 0
    for schema in _SCHEMAS:
        made = [f"CREATE SCHEMA {schema}"]
        for number in range(_TABLES):
            tag += 1
            made += [_created(f"{schema}.t{number}", tag), _sequence(f"{schema}.s{number}", tag)]
        made += [
            f"CREATE TABLE {schema}.p (gen int, tag int, n int) PARTITION BY LIST (n)",
            *(_partition(schema, number) for number in range(2)),
            f"CREATE FUNCTION {schema}.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            f"CREATE VIEW {schema}.v AS SELECT *, {schema}.f() AS f FROM {schema}.p",
        ]
        cluster.execute("; ".join(made), database)
    cluster.execute("SELECT public.advance()", database)


def _created(name: str, tag: int) -> str:
    place = name.replace(".", "_")
    return (
        f"CREATE TABLE {name} (gen int, tag int, n int);"
        f"INSERT INTO {name} SELECT 0, {tag}, g FROM generate_series(1, 5) g;"
        f"CREATE INDEX ON {name} (n);"
        f"CREATE TRIGGER touched_{place} BEFORE INSERT ON {name} EXECUTE FUNCTION public.touched()"
    )


def _sequence(name: str, tag: int) -> str:
    return f"CREATE SEQUENCE {name} START {tag * _MILLION} MINVALUE {tag * _MILLION}"


def _partition(schema: str, number: int) -> str:
    return (
        f"CREATE TABLE {schema}.p{number} PARTITION OF {schema}.p FOR VALUES IN ({number});"
        f"INSERT INTO {schema}.p VALUES (0, {number}, {number})"
    )


def _step(chance: random.Random, number: int) -> str:
    """Return a random change of the schema; `number` is another one each time."""
    schema = chance.choice(_SCHEMAS)
    one, two = chance.sample(range(_TABLES), 2)
    table, other = f"{schema}.t{one}", f"{schema}.t{two}"
    sequence, another = f"{schema}.s{one}", f"{schema}.s{two}"
    part = chance.randint(0, 1)
    return chance.choice(
        (
            # renewed, and its index and trigger with it
            f"ALTER TABLE {table} RENAME TO renewed; CREATE TABLE {table} (LIKE {schema}.renewed"
            f" INCLUDING ALL); INSERT INTO {table} TABLE {schema}.renewed;"
            f" DROP TABLE {schema}.renewed",
            _exchanged("TABLE", table, other),
            _exchanged("TABLE", table, other),
            f"DROP TABLE {table}; {_created(table, number)}",
            f"ALTER TABLE {table} SET SCHEMA public; ALTER TABLE {other} SET SCHEMA public;"
            f" ALTER TABLE public.t{one} RENAME TO moved; ALTER TABLE public.t{two} RENAME TO"
            f" t{one}; ALTER TABLE public.moved RENAME TO t{two};"
            f" ALTER TABLE public.t{one} SET SCHEMA {schema};"
            f" ALTER TABLE public.t{two} SET SCHEMA {schema}",
            f"CREATE TEMP TABLE kept ON COMMIT DROP AS TABLE {table}; TRUNCATE {table};"
            f" INSERT INTO {table} TABLE kept",
            f"ALTER TABLE {table} ADD c{number} text DEFAULT 'x'",
            f"ALTER TABLE {table} DROP n; ALTER TABLE {table} ADD n int DEFAULT {number}",
            f"ALTER TABLE {table} RENAME gen TO kept; ALTER TABLE {table} RENAME tag TO gen;"
            f" ALTER TABLE {table} RENAME kept TO tag",
            f"ALTER TABLE {table} ALTER n TYPE {chance.choice(('int', 'bigint'))}",
            f"DROP TABLE {schema}.p{part}; {_partition(schema, part)}",
            f"ALTER TABLE {schema}.p DETACH PARTITION {schema}.p{part}; TRUNCATE {schema}.p{part};"
            f" INSERT INTO {schema}.p{part} VALUES (0, {number}, {part});"
            f" ALTER TABLE {schema}.p ATTACH PARTITION {schema}.p{part} FOR VALUES IN ({part})",
            f"ALTER SEQUENCE {sequence} RESTART",
            f"DROP SEQUENCE {sequence}; {_sequence(sequence, number)}",
            _exchanged("SEQUENCE", sequence, another),
            "ALTER SCHEMA east RENAME TO moved; ALTER SCHEMA west RENAME TO east;"
            " ALTER SCHEMA moved RENAME TO west",
            f"DROP VIEW {schema}.v; ALTER FUNCTION {schema}.f() RENAME TO f{number};"
            f" CREATE FUNCTION {schema}.f() RETURNS int LANGUAGE sql AS 'SELECT {number}';"
            f" CREATE VIEW {schema}.v AS SELECT *, {schema}.f{number}() AS f FROM {schema}.p",
        )
    )


def _exchanged(kind: str, one: str, other: str) -> str:
    (schema, first), (_, second) = one.split("."), other.split(".")
    return (
        f"ALTER {kind} {one} RENAME TO exchanged; ALTER {kind} {other} RENAME TO {first};"
        f" ALTER {kind} {schema}.exchanged RENAME TO {second}"
    )


class Turmoil:
    """What the session that alters did: steps, and those that could not be (a lock)."""

    def __init__(self) -> None:
        self.steps = self.lost = 0
        self.fault: BaseException | None = None


@contextmanager
def turmoil(cluster: Cluster, database: str, seed: int, pause: float) -> Iterator[Turmoil]:
    """Alter the schema for the length of a block, a step each `pause` seconds or so."""
    stop, done = threading.Event(), Turmoil()

    def work() -> None:
        conn = cluster.connect(database)
        chance = random.Random(seed)
        try:
            while not stop.wait(chance.expovariate(1 / pause)):
                _make(conn, chance, done)
        except BaseException as exc:
            done.fault = exc
        finally:
            conn.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()
    assert done.fault is None, done.fault


def _make(conn: Any, chance: random.Random, done: Turmoil) -> None:
    done.steps += 1
    change = _step(chance, 100 + done.steps)
    # half of them hold their locks for a while: who comes then waits, with an old snapshot
    wait = f"SELECT pg_sleep({chance.uniform(0, 0.2)});" if chance.random() < 0.5 else ""
    try:
        with conn.cursor() as cursor:
            cursor.execute("BEGIN; SET LOCAL lock_timeout = '3s'")
            cursor.execute(f"{change}; SELECT public.advance(); {wait} COMMIT")
    except psycopg2.OperationalError:  # a lock that a backup holds, a deadlock with it
        done.lost += 1
        with conn.cursor() as cursor:
            cursor.execute("ROLLBACK")


def one_moment(cluster: Cluster, database: str) -> list[str]:
    """Return in what a restored database is not what its own ledger says it was."""
    conn = cluster.connect(database)
    with conn.cursor() as cursor:
        cursor.execute("SELECT public.state(), state, sequences FROM public.ledger")
        found, ledger, sequences = cursor.fetchone()
        wrong = [f"{line!r} differs" for line in set(found.split("\n")) ^ set(ledger.split("\n"))]
        for name, value in sequences.items():
            cursor.execute(f"SELECT last_value FROM {name}")
            stands = cursor.fetchone()[0]
            # ahead, by later calls, but never behind and never another one
            if stands < value or stands // _MILLION != value // _MILLION:
                wrong.append(f"sequence {name} stands at {stands}, not {value}")
    conn.close()
    return wrong


@dataclass
class Outcome:
    """What a number of backups came to; `failed` has the words of those that failed."""

    whole: int = 0
    again: int = 0
    failed: list[str] = field(default_factory=list)


def trials(
    cluster: Cluster,
    fresh: Callable[..., str],
    folder: Path,
    *,
    number: int,
    seed: int,
    pause: float,
) -> Outcome:
    """Make backups beside a turmoil, restore each, and return what they came to.

    A restored one that is not one moment is an AssertionError.
    """
    target, outcome, chance = cluster.target(fresh(cluster)), Outcome(), random.Random(seed)
    set_up(cluster, target.database)
    with turmoil(cluster, target.database, seed, pause):
        for trial in range(number):
            options = {"proof": chance.random() < 0.8, "layout": chance.choice(("", "custom"))}
            shop = replace(target, jobs=chance.choice((1, 2)))
            try:
                made, lines = said(shop, folder / str(trial), **options)
            except Failed as exc:
                outcome.failed.append(f"{exc.message}\n{exc.hint}")
                continue
            outcome.again += len(lines)
            copy = restored(made, cluster, fresh)
            wrong = one_moment(cluster, copy.database)
            assert not wrong, (trial, lines, wrong)
            wrong += differences(made, copy) if options["proof"] else ()
            assert not wrong, (trial, lines, wrong)
            cluster.drop(copy.database)
            outcome.whole += 1
    return outcome

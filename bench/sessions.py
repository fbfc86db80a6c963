"""Open and close sessions without a pause: `python -m bench.sessions CONTENDER BLOCK NUMBER`.

`pgtasks` opens a block of the service, `sqlalchemy` its own Session with a transaction, on an
engine that tries a connection before use, as ours does. Prints the CPU seconds of one as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

from sqlalchemy import create_engine, text
from sqlalchemy.orm import sessionmaker

from pgtasks.service import get_db_session, initialize_database

_WARM = 200  # blocks before those that are timed
_ONE = text("SELECT 1")


def main(contender: str, block: str, number: str) -> None:
    """Open and close blocks, and print what one of them takes."""
    run = {"pgtasks": ours, "sqlalchemy": theirs}[contender](block)
    run(_WARM)
    began = time.process_time()
    run(int(number))
    print(json.dumps({"block": (time.process_time() - began) / int(number)}))


def ours(block: str) -> Callable[[int], None]:
    """Return what opens blocks of the service."""
    initialize_database()

    def empty(number: int) -> None:
        for _ in range(number):
            with get_db_session():
                pass

    def one(number: int) -> None:
        for _ in range(number):
            with get_db_session() as session:
                session.execute(_ONE)

    return {"empty": empty, "one": one}[block]


def theirs(block: str) -> Callable[[int], None]:
    """Return what opens sessions of SQLAlchemy."""
    engine = create_engine(initialize_database().url, pool_pre_ping=True)
    make = sessionmaker(engine, expire_on_commit=False)

    def empty(number: int) -> None:
        for _ in range(number):
            with make.begin():
                pass

    def one(number: int) -> None:
        for _ in range(number):
            with make.begin() as session:
                session.execute(_ONE)

    return {"empty": empty, "one": one}[block]


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What is compared, one module per case; each has `run(bench)`, which returns rows."""

from __future__ import annotations

from bench.cases import (
    backup,
    clone,
    copy,
    memory,
    remote,
    restore,
    schema,
    session,
    startup,
    swap,
    tiny,
    web,
)
from bench.contest import Case

ALL: dict[str, Case] = {
    startup.NAME: startup.run,
    tiny.NAME: tiny.run,
    backup.NAME: backup.run,
    restore.NAME: restore.run,
    copy.NAME: copy.run,
    clone.NAME: clone.run,
    schema.NAME: schema.run,
    swap.NAME: swap.run,
    memory.NAME: memory.run,
    remote.NAME: remote.run,
    web.NAME: web.run,
    session.NAME: session.run,
}

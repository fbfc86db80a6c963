"""Where and on what a benchmark ran."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bench.server import SETTINGS, Server
from bench.workspace import ROOT


def facts(server: Server) -> dict[str, Any]:
    """Return what somebody must know to compare figures with their own."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "commit": _commit(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "postgresql": f"{server.version} ({server.origin})",
        "settings": dict(SETTINGS),
        "load_before": round(os.getloadavg()[0], 2),
    }


def line(facts: Mapping[str, Any]) -> str:
    """Return the facts as one line for people."""
    memory = f"{facts['memory_bytes'] / 2**30:.0f} GiB"
    settings = ", ".join(f"{key} {value}" for key, value in facts["settings"].items())
    return (
        f"{facts['cores']} cores ({facts['cpu']}), {memory}, {facts['system']}; "
        f"PostgreSQL {facts['postgresql']}: {settings}; Python {facts['python']}; "
        f"{facts['date']}, commit {facts['commit']}; load {facts['load_before']} before, "
        f"{facts.get('load_after', '?')} after, others used {facts.get('others', '?')} of the CPU"
    )


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    found = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _commit() -> str:
    """Return the commit of what is measured, with a + where files differ from it."""
    argv = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"

"""Check the owner of a server's socket, because anybody may create one in a shared folder.

A password is only sent to a socket of the account that runs the server.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from pathlib import Path

from pgtasks.errors import Refused
from pgtasks.report import account
from pgtasks.settings import libpq
from pgtasks.settings.target import REQUIREPEER, SocketFacts, Target

_SERVERS = ("root", "postgres")  # accounts of the system
_OTHERS_WRITE = 0o002


def look(folder: str, port: int) -> SocketFacts:
    """Return the facts about a socket on this machine."""
    path = Path(libpq.socket_path(folder, port))
    makers: dict[str, str] = {}
    for each in (path, Path(os.path.realpath(folder), path.name)):
        for part in (each, *each.parents[:-1]):
            if _uid(part) is not None and _mode(part.parent) & _OTHERS_WRITE:
                makers.setdefault(_account(_uid(part)), str(part))
    return SocketFacts(folder, _account(os.geteuid()), _account(_uid(path)), makers)


def _uid(path: Path) -> int | None:
    try:
        return path.lstat().st_uid
    except OSError:
        return None


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _account(uid: int | None) -> str:
    """Return an account's name, its number if it has none."""
    return "" if uid is None else account.name_of(uid)


# $1: the port, then folders; the first one with a socket is used, or the only one
LOOK = """\
port=$1; shift
owner() { set -f; set -- $(ls -ld -- "$1" 2>/dev/null); echo "$3"; }
for d in "$@"; do
  s=$d/SOCKET$port
  [ $# -eq 1 ] || [ -S "$s" ] || continue
  printf 'folder\\t%s\\n' "$d"
  [ ! -S "$s" ] || printf 'owner\\t%s\\n' "$(owner "$s")"
  for p in "$s" "$(cd -P -- "$d" 2>/dev/null && pwd -P)/SOCKET$port"; do
    while [ -n "$p" ]; do
      up=${p%/*}
      case $(ls -ldL -- "${up:-/}" 2>/dev/null) in
        (????????w*) [ ! -e "$p" ] || printf 'maker\\t%s\\t%s\\n' "$(owner "$p")" "$p";;
      esac
      p=$up
    done
  done
  exit
done
printf 'folder\\tlocalhost\\n'
""".replace("SOCKET", libpq.SOCKET).replace("SOCKET", libpq.SOCKET)


def parsed(text: str, own: str) -> SocketFacts:
    """Parse the output of LOOK."""
    rows = [line.split("\t") for line in text.splitlines()]
    fields = {row[0]: row[1] for row in rows if len(row) == 2}
    makers = {row[1]: row[2] for row in reversed(rows) if len(row) == 3}
    return SocketFacts(fields.get("folder", ""), own, fields.get("owner", ""), makers)


def trusted(target: Target) -> Target:
    """Return the target, with the account that its socket must belong to.

    Raises Refused if it belongs to another account. In a folder where only its owner can write, any
    socket is trusted.
    """
    if not target.socket or target.embedded:
        return target
    facts = target.peer if target.ssh else look(target.host, target.port)
    if facts is None:
        return target
    wanted = target.parameters.get(REQUIREPEER)
    if fault := _fault(facts, target, wanted):
        raise Refused(fault)
    if not facts.makers or wanted or not facts.owner or facts.owner.isdigit():
        return target
    # libpq checks the process that answers again
    return replace(target, parameters={**target.parameters, REQUIREPEER: facts.owner})


def _fault(facts: SocketFacts, target: Target, wanted: str | None) -> str:
    where = f"{target.ssh}: " if target.ssh else ""
    path = libpq.socket_path(facts.folder, target.port)
    if wanted and facts.owner and facts.owner != wanted:
        return f"{where}{path!r} belongs to {facts.owner!r}, requirepeer is {wanted!r}"
    for maker, entry in facts.makers.items():
        if maker not in (*_SERVERS, facts.own, wanted):
            folder = shlex.quote(entry.rpartition("/")[0] or "/")
            return (
                f"{where}{entry!r} belongs to {maker!r}, and anybody may write to {folder}: "
                f"nothing is sent to it; if {maker!r} runs the server, set requirepeer: {maker}, "
                "else name the socket folder of the server in host"
            )
    return ""

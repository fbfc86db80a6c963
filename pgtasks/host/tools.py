"""Find PostgreSQL's tools, and choose those of a fitting version."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from pgtasks.errors import BadConfiguration, Failed, VersionMismatch
from pgtasks.host import peer
from pgtasks.host.base import Command, Host
from pgtasks.host.installations import FOLDERS, FROM_SOURCE, WHEEL
from pgtasks.report import account
from pgtasks.settings import libpq
from pgtasks.settings.target import Target

_SETS_TRANSACTION_TIMEOUT = 17  # the first pg_restore that sets it, and server that has it
_PLAIN = ("/usr/bin", "/usr/local/bin", "/opt/homebrew/bin")
_SHOWN = 80  # characters of an invalid line that are shown


@dataclass(frozen=True)
class Toolset:
    """pg_dump, pg_restore and psql of one version. `origin` is setting, system or wheel."""

    folder: str
    version: tuple[int, int]
    origin: str
    compressions: frozenset[str] = field(default=frozenset({"gzip", "none"}))

    @property
    def major(self) -> int:
        """Return the major version."""
        return self.version[0]

    @property
    def without_tls(self) -> bool:
        """Whether the tools lack TLS: libpq would then silently not encrypt."""
        return WHEEL in self.folder

    def tool(self, name: str) -> str:
        """Return the path of one tool."""
        return f"{self.folder}/{name}"

    def __str__(self) -> str:
        return f"{self.version[0]}.{self.version[1]} ({self.origin}, {self.folder})"


def parse_version(text: str) -> tuple[int, int] | None:
    """Parse `pg_dump (PostgreSQL) 16.14 (Debian ...)` into (16, 14); a beta counts as minor 0."""
    match = re.search(r"\(PostgreSQL\) ([0-9]{1,4})(?:\.([0-9]{1,4}))?", text)
    return (int(match[1]), int(match[2] or 0)) if match else None


# Prints one line for each folder with pg_dump: origin, folder, version, configure options. It is
# one script, because each process costs time over SSH.
_LOOK = """
seen=' '
look() {{
  case $seen in (*" $2 "*) return;; esac
  [ "$1" = setting ] || [ -x "$2/pg_dump" ] || return
  seen="$seen$2 "
  said='no such program'
  [ ! -e "$2/pg_dump" ] || said=$("$2/pg_dump" --version 2>&1)
  with=
  case "$1 $said" in  # the wheel's are known, and those before 16 have gzip alone
    (wheel*|*'PostgreSQL) 1'[0-5].*) ;;
    (*) with=$("$2/pg_config" --configure 2>/dev/null);;
  esac
  printf '%s\\t%s\\t%s\\t%s\\n' "$1" "$2" "$(echo $said)" "$(echo $with)"
}}
[ -z "$1" ] || look setting "$1"
shift
for d in {folders}; do look system "$d"; done
p=$(command -v pg_dump)
p=${{p%/pg_dump}}
case $p in ({plain}|*{wheel}*) ;; (/*) look system "$p";; esac
case $seen in (*/*) ;; (*) for d in {plain_words}; do look system "$d"; done;; esac
for d in "$@"; do look wheel "$d"; done
:
"""


def _script() -> str:
    """Return the script that looks for the tools in all usual folders."""
    return _LOOK.format(
        folders=" ".join((*FOLDERS, FROM_SOURCE)),
        plain="|".join(_PLAIN),
        plain_words=" ".join(_PLAIN),
        wheel=WHEEL,
    )


def available(host: Host, target: Target) -> tuple[Toolset, ...]:
    """Return the toolsets on a host, lowest version first, raising BadConfiguration.

    The folder in the settings of the environment is among them, and preferred.
    """
    return installed(host, setting=host.view(target).tools)


def installed(host: Host, *, setting: str = "") -> tuple[Toolset, ...]:
    """Return the toolsets on a host, lowest version first; `setting` is a further folder."""
    return _installed(host, setting)


@functools.lru_cache(maxsize=8)
def _installed(host: Host, setting: str) -> tuple[Toolset, ...]:
    argv = ("/bin/sh", "-c", _script(), "sh", setting, *host.bundled)
    toolsets = filter(None, map(_toolset, host.capture(Command(argv)).splitlines()))
    return tuple(sorted(toolsets, key=lambda tools: (tools.version, tools.origin)))


def _toolset(line: str) -> Toolset | None:
    """Parse a line of the script, None for a pg_dump that does not run."""
    if line.count("\t") != 3:
        raise Failed(f"the search for PostgreSQL's tools printed {line[:_SHOWN]!r}")
    origin, folder, version_text, configured = line.split("\t")
    version = parse_version(version_text)
    if version is None and origin == "setting":
        raise BadConfiguration(
            f"tools: {folder}/pg_dump is not that of PostgreSQL: {version_text or 'no output'}"
        )
    if version is None:
        return None  # for example, a library is missing
    return Toolset(folder, version, origin, _compressions(origin, version, configured))


def _compressions(origin: str, version: tuple[int, int], configured: str) -> frozenset[str]:
    plain = frozenset({"gzip", "none"})
    if origin == "wheel" or version < (16, 0):
        return plain
    return plain | {name for name in ("zstd", "lz4") if f"--with-{name}" in configured}


def for_dump(toolsets: Sequence[Toolset], server: int, target: Target) -> Toolset:
    """Return the tools that dump from a server of major `server`.

    The server's own major, else the lowest newer one: pg_dump refuses a newer server.
    """
    usable = _usable(toolsets, target)
    fitting = [tools for tools in usable if tools.major >= server]
    if not fitting:
        raise _none_fits(
            "pg_dump", f"{server} or newer", target, toolsets, lambda t: t.major >= server
        )
    # of the same major, the tools with better compression
    return min(fitting, key=lambda t: (t.major, -len(t.compressions), -t.version[1]))


def for_restore(
    toolsets: Sequence[Toolset], server: int, dumped_by: int, compression: str, target: Target
) -> Toolset:
    """Return the tools that restore an archive of pg_dump `dumped_by` into a server.

    Not older than that pg_dump, whose archive an older pg_restore refuses; below 17 for servers
    below 17, because pg_restore 17 sets transaction_timeout, which they do not know; preferably
    the server's own major.
    """
    if server < _SETS_TRANSACTION_TIMEOUT <= dumped_by:
        raise VersionMismatch(
            f"no pg_restore restores a dump of pg_dump {dumped_by} into a server of {server}: "
            f"those below {dumped_by} cannot read it, those from {_SETS_TRANSACTION_TIMEOUT} on "
            "set transaction_timeout, which that server does not know: restore into a server of "
            f"{_SETS_TRANSACTION_TIMEOUT} or newer"
        )

    def fits(tools: Toolset) -> bool:
        known = server >= _SETS_TRANSACTION_TIMEOUT or tools.major < _SETS_TRANSACTION_TIMEOUT
        return dumped_by <= tools.major and known and compression in tools.compressions

    fitting = list(filter(fits, _usable(toolsets, target)))
    if not fitting:
        wanted = f"{dumped_by} or newer"
        if server < _SETS_TRANSACTION_TIMEOUT:
            # between the two there is at least one, see above
            last = _SETS_TRANSACTION_TIMEOUT - 1
            wanted = str(dumped_by) if dumped_by == last else f"{dumped_by} to {last}"
        if compression not in ("gzip", "none"):
            wanted += f" with {compression}"
        raise _none_fits("pg_restore", wanted, target, toolsets, fits)
    return min(fitting, key=lambda t: (abs(t.major - server), -t.version[1]))


def for_description(
    toolsets: Sequence[Toolset], server: int, dumped_by: int, target: Target
) -> Toolset | None:
    """Return the tools whose pg_dump describes a server of major `server` as `dumped_by` does.

    The nearest to that major, because each prints some things differently; None if none supports
    that server.
    """
    fitting = [tools for tools in _usable(toolsets, target) if tools.major >= server]
    return min(
        fitting, key=lambda t: (abs(t.major - dumped_by), t.major, -t.version[1]), default=None
    )


def for_reading(toolsets: Sequence[Toolset], dumped_by: int) -> list[Toolset]:
    """Return the tools that read an archive of pg_dump `dumped_by`, the lowest version first.

    Also those that cannot decompress it, which can list its contents.
    """
    return sorted((t for t in toolsets if t.major >= dumped_by), key=lambda t: t.version)


def for_psql(toolsets: Sequence[Toolset], server: int, target: Target) -> Toolset:
    """Return the tools whose psql is nearest to the server, preferably not older."""
    usable = _usable(toolsets, target)
    if not usable:
        raise _none_fits("psql", "of any version", target, toolsets, lambda t: True)
    return min(usable, key=lambda t: (t.major < server, abs(t.major - server), -t.version[1]))


def _usable(toolsets: Iterable[Toolset], target: Target) -> list[Toolset]:
    chosen = [tools for tools in toolsets if not tools.without_tls or _needs_no_tls(target)]
    # the tools in the setting `tools` are preferred to all others
    return [t for t in chosen if t.origin == "setting"] or chosen


def _needs_no_tls(target: Target) -> bool:
    """Return whether TLS is not needed: within this machine, or if the settings turn it off."""
    return target.loopback and not libpq.wants_tls(target.parameters)


def _none_fits(
    tool: str,
    wanted: str,
    target: Target,
    toolsets: Sequence[Toolset],
    fits: Callable[[Toolset], bool],
) -> VersionMismatch:
    """Return the error for a missing tool, with the reasons why others do not fit."""
    where, setting = (" there", "ssh.bin") if target.end else ("", "tools")
    usable = _usable(toolsets, target)
    if named := [tools for tools in usable if tools.origin == "setting"]:
        others = _usable([t for t in toolsets if t not in named], target)
        fitting = next(filter(fits, others), None)
        way = f"remove it, {fitting} fits" if fitting else "name the folder of one that fits"
        return VersionMismatch(
            f"no {tool} fits {target}: wanted {wanted}, and `{setting}` names "
            f"{', '.join(f'{t.version[0]}.{t.version[1]} in {t.folder!r}' for t in named)}: {way}"
        )
    names = ", ".join(str(tools) for tools in usable) or "none"
    why = ""
    if passed := [tools for tools in toolsets if tools not in usable]:
        versions = ", ".join(f"{tools.version[0]}.{tools.version[1]}" for tools in passed)
        why = f" (those of the wheel, {versions}, have no TLS, which is required here)"
    return VersionMismatch(
        f"no {tool} fits {target}: wanted {wanted}, found {names}{why}: "
        f"install the PostgreSQL client of that version{where} or name its folder in `{setting}`"
    )


def environment(target: Target, passfile: str, *, read_only: bool = False) -> dict[str, str]:
    """Return the variables with which a tool connects to the target, without secrets."""
    target = peer.trusted(target)
    given = libpq.reading(target.parameters) if read_only else target.parameters
    parameters = {**given, "host": target.host, "port": str(target.port)}
    parameters |= {"user": target.user, "database": target.database}
    variables = libpq.VARIABLES
    env = {variables[key]: value for key, value in parameters.items() if key in variables}
    env["PGAPPNAME"] = account.application_name("tools")
    env["PGCLIENTENCODING"] = "UTF8"
    if passfile:
        env["PGPASSFILE"] = passfile
    if read_only:
        own = "-c default_transaction_read_only=on"
        env["PGOPTIONS"] = " ".join(filter(None, (env.get("PGOPTIONS"), own)))
    return env


def dbname(name: str) -> str:
    """Return a name for --dbname, which would read a name with `=` as a connection string."""
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"

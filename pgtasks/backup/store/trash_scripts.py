"""The shell scripts for dropped backups on a database host: POSIX shell, one script per step."""

from __future__ import annotations

from collections.abc import Sequence

from pgtasks.backup.format import manifest as manifests
from pgtasks.backup.store import scripts
from pgtasks.host.base import Command

MOST = 400  # names of one script, because a command line is limited

# A folder of our own on the same disk, because mv would copy to another disk, and a link could lead
# anywhere. `disk` is its device and where that is mounted.
_TRASH = """\
disk() { df -Pk -- "$1" | tail -n 1 | sed 's/  *[0-9].*% */ /'; }
if [ -L .trash ] || { [ -e .trash ] && [ ! -d .trash ]; }; then echo link; exit; fi
[ -d .trash ] || mkdir -- .trash || exit 1
if [ ! -O .trash ]; then echo foreign; exit; fi
if [ "$(disk .)" != "$(disk .trash)" ]; then echo disk; exit; fi
"""

# $1: folders of environment and database, $2: the name of the lock. Everybody makes a lock and then
# looks for others, so that of two runs at the same moment one goes on at most. Locks of dead runs
# are removed.
_LOCK = """\
mkdir -- ".trash/$2" && printf '%s\\n' "$PGTASKS_ROOM" > ".trash/$2/.room" || exit 1
for d in .trash/.lock-*; do
  if [ "$d" = ".trash/$2" ] || [ ! -d "$d" ]; then continue; fi
  if alive "$d"; then rm -rf -- ".trash/$2"; echo busy; exit; fi
  rm -rf -- "$d"
done
printf 'held %s\\n' "$base/$1/.trash/$2"
"""

# $1: folders of environment and database; then pairs of an ID and its name in the trash
_DROP = """\
cd -- "$base/$1" || exit 1
shift
while [ $# -gt 1 ]; do
  if [ -L "$1" ] || [ ! -d "$1" ]; then printf 'gone %s\\n' "$1"
  elif [ -e ".trash/$2" ] || [ -L ".trash/$2" ]; then printf 'taken %s\\n' "$1"
  elif mv -- "$1" ".trash/$2"; then printf 'moved %s\\n' "$1"
  else printf 'failed %s\\n' "$1"
  fi
  shift 2
done
sync . .trash 2>/dev/null || sync
"""

# $1: a folder, $2: the name in the trash, $3: the ID
_BRING_BACK = """\
cd -- "$1" || exit 1
[ ! -L .trash ] || { echo link; exit; }
if [ -e "$3" ] || [ -L "$3" ]; then echo there; exit; fi
[ -d ".trash/$2" ] || { echo gone; exit; }
mv -- ".trash/$2" "$3" && { sync . .trash 2>/dev/null || sync; } && echo moved
"""

# $1: a folder; then pairs of a name in the trash and the name for its removal
_EMPTY = """\
cd -- "$1" || exit 1
[ ! -L .trash ] || { echo link; exit; }
shift
while [ $# -gt 1 ]; do
  if [ "$1" != "$2" ] && [ -e ".trash/$1" ]; then mv -- ".trash/$1" ".trash/$2"; fi
  if rm -rf -- ".trash/$2"; then printf 'removed %s\\n' "$1"; else printf 'failed %s\\n' "$1"; fi
  shift 2
done
"""

# $1: a folder; then backups in it. Prints the lines of ls for all their files
_FILES = """\
cd -- "$1" || exit 1
shift
find "$@" ! -type d ! -name '.*' -exec ls -lnd {} + 2>/dev/null || :
"""

# $1: folders of environment and database, $2: number. The last names, which begin with their times
_NEWEST = """\
cd -- "$base/$1" 2>/dev/null || exit 0
set -- "$2" "$3" "$4" [0-9]*/manifest.json
n=$1; l=$2; k=$3
shift 3
[ $# -le "$n" ] || shift $(($# - n))
for f do
  shift
  [ ! -L "${f%/*}" ] && [ ! -L "$f" ] && [ -f "$f" ] && [ -r "$f" ] || continue
  [ -z "$(find "$f" -prune -size "+$l" 2>/dev/null)" ] || continue
  set -- "$@" "$f"
  f=${f%/*}/checks.json
  [ ! -L "$f" ] && [ -f "$f" ] && [ -r "$f" ] || continue
  [ -z "$(find "$f" -prune -size "+$k" 2>/dev/null)" ] || continue
  set -- "$@" "$f"
done
[ $# -eq 0 ] || exec tar -cf - -- "$@"
"""


def lock(folder: str, home: str, name: str) -> Command:
    """Return the command that makes a lock: it prints held, busy, none, or what is wrong."""
    enter = 'cd -- "$base/$1" 2>/dev/null || { echo none; exit; }\n'
    return scripts.script(scripts.BASE + enter + _TRASH + _LOCK, folder, home, name)


def drop(folder: str, home: str, pairs: Sequence[tuple[str, str]]) -> Command:
    """Return the command that moves backups into the trash, and prints a line for each."""
    return scripts.script(
        scripts.BASE + _DROP, folder, home, *(word for pair in pairs for word in pair)
    )


def bring_back(home: str, name: str, id: str) -> Command:
    """Return the command that moves a backup back from the trash; it prints the result."""
    return scripts.script(_BRING_BACK, home, name, id)


def empty(home: str, pairs: Sequence[tuple[str, str]]) -> Command:
    """Return the command that removes backups from the trash, and prints a line for each."""
    return scripts.script(_EMPTY, home, *(word for pair in pairs for word in pair))


def files(home: str, ids: Sequence[str]) -> Command:
    """Return the command that lists the files of backups: lines of ls, with names below `home`."""
    return scripts.script(_FILES, home, *(f"./{id}" for id in ids))


def newest(folder: str, home: str, number: int) -> Command:
    """Return the command that sends the manifests of the last names, and their checks."""
    limits = (str(manifests.LIMIT // 512), str(scripts.CHECKS // 512))
    return scripts.script(scripts.BASE + _NEWEST, folder, home, str(number), *limits)


def has(folder: str) -> Command:
    """Return the command that prints `there` if a folder is there."""
    return scripts.script('[ ! -d "$1" ] || echo there', folder)

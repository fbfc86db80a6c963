"""The shell scripts for dropped backups on a database host: POSIX shell, one script per step."""

from __future__ import annotations

from collections.abc import Iterable

from pgtasks.backup.format import manifest as manifests
from pgtasks.backup.store import scripts
from pgtasks.host.base import Command

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

# Renames by lines of stdin, FROM TO, and prints a line for each: perl does it without a process for
# each name, where it is there. Names have no spaces.
_MOVE = """\
moved() {
  if command -v perl >/dev/null 2>&1; then
    perl -ne '
      chomp; my ($from, $to) = split / /; $| = 1;
      lstat $from; my $word = -d _ ? "" : "gone";
      $word = "taken" if !$word && lstat $to;
      $word = rename($from, $to) ? "moved" : "failed" unless $word;
      print "$word $from\\n"'
    return
  fi
  while read -r from to; do
    if [ -L "$from" ] || [ ! -d "$from" ]; then printf 'gone %s\\n' "$from"
    elif [ -e "$to" ] || [ -L "$to" ]; then printf 'taken %s\\n' "$from"
    elif mv -- "$from" "$to"; then printf 'moved %s\\n' "$from"
    else printf 'failed %s\\n' "$from"
    fi
  done
}
"""

# $1: folders of environment and database; stdin: an ID and its name below the folder
_DROP = """\
cd -- "$base/$1" || exit 1
moved
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

# $1: a folder; stdin: a name in the trash and the name for its removal, which may be the same
_EMPTY = """\
cd -- "$1" || exit 1
[ ! -L .trash ] || { echo link; exit; }
cd .trash || exit 1
names=$(cat)
[ -n "$names" ] || exit 0
printf '%s\\n' "$names" | if command -v perl >/dev/null 2>&1; then
  perl -ne 'chomp; my ($from, $to) = split / /; rename $from, $to unless lstat $to'
else
  while read -r from to; do
    [ -e "$to" ] || [ -L "$to" ] || mv -- "$from" "$to"
  done
fi
printf '%s\\n' "$names" | sed 's/.* //' | xargs rm -rf --
printf '%s\\n' "$names" | while read -r from to; do
  word=removed
  for d in "$from" "$to"; do
    if [ -e "$d" ] || [ -L "$d" ]; then word=failed; fi
  done
  printf '%s %s\\n' "$word" "$from"
done
"""

# $1: a folder; stdin: backups in it. Prints the lines of ls for all their files
_FILES = """\
cd -- "$1" || exit 1
xargs sh -c 'find "$@" ! -type d ! -name ".*" -exec ls -lnd {} + 2>/dev/null || :' sh
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


def drop(folder: str, home: str) -> Command:
    """Return the command that moves backups into the trash, and prints a line for each.

    It reads lines of `moves`.
    """
    return scripts.script(scripts.BASE + _MOVE + _DROP, folder, home)


def moves(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Return the lines of names and new names that `drop` and `empty` read."""
    return "".join(f"{name} {new}\n" for name, new in pairs).encode("utf-8", "surrogateescape")


def bring_back(home: str, name: str, id: str) -> Command:
    """Return the command that moves a backup back from the trash; it prints the result."""
    return scripts.script(_BRING_BACK, home, name, id)


def empty(home: str) -> Command:
    """Return the command that removes backups from the trash, and prints a line for each.

    It reads lines of `moves`.
    """
    return scripts.script(_EMPTY, home)


def files(home: str) -> Command:
    """Return the command that lists the files of backups: lines of ls, with names below `home`.

    It reads the IDs.
    """
    return scripts.script(_FILES, home)


def newest(folder: str, home: str, number: int) -> Command:
    """Return the command that sends the manifests of the last names, and their checks."""
    limits = (str(manifests.LIMIT // 512), str(scripts.CHECKS // 512))
    return scripts.script(scripts.BASE + _NEWEST, folder, home, str(number), *limits)


def has(folder: str) -> Command:
    """Return the command that prints `there` if a folder is there."""
    return scripts.script('[ ! -d "$1" ] || echo there', folder)

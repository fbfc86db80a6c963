"""What runs on a host to keep backups there: POSIX shell, one script per step.

A step costs three round trips, so each does all it can.
"""

from __future__ import annotations

from collections.abc import Iterable

from pgtasks.backup.format.manifest import LIMIT as LARGEST
from pgtasks.host.local import Command

BUSY, THERE = "busy", "there"
CHECKS = 64 << 10  # bytes that the checks beside a backup may have

# `alive` says whether a folder in the making belongs to a run: it names the run's room, which the
# lifeline removes with the folder around it when the run ends, however it ends. One that names none
# yet is somebody's for a minute; one that cannot be looked into is another account's, and a folder
# of another account in the room's place is no room.
_BASE = """\
umask 077
case $1 in (/*) base=$1;; ('~'/*) base=$HOME/${1#??};; (*) base=$HOME/$1;; esac
shift
alive() {
  [ -x "$1" ] || return 0
  if [ -f "$1/.room" ] && { IFS= read -r room < "$1/.room"; } 2>/dev/null; then
    case $room in (/*/room) room=${room%/room};; (*) return 1;; esac
    [ -d "$room" ] && [ ! -L "$room" ] && [ -O "$room" ]; return
  fi
  [ -z "$(find "$1" -prune -mmin +1 2>/dev/null)" ]
}
dead() {
  for d in */*/.*.partial; do
    if [ -d "$d" ] && ! alive "$d"; then printf '%s\\n' "$d"; fi
  done
}
sweep() { dead | while IFS= read -r d; do rm -rf -- "$d" && printf 'swept %s\\n' "$d"; done; }
"""

# $1, $2: blocks of 512 bytes that a manifest and the checks beside it may have. Says where the
# folder is; what is dead, what is finished, which file is no plain one or too large; after an empty
# line the manifests
_LIST = """\
printf 'base %s\\n' "$base"
said=$(ls -d -- "$base/." 2>&1) || case $said in
  (*"No such file"*) echo; exit 0;;
  (*) printf '%s\\n' "$said" >&2; exit 1;;
esac
cd -- "$base" || exit 1
dead | sed 's/^/dead /'
for d in */*/[!.]*; do [ ! -d "$d" ] || printf 'backup %s\\n' "$d"; done
large=$(find ./*/*/[!.]*/manifest.json -prune -type f -size "+$1" 2>/dev/null
        find ./*/*/[!.]*/checks.json -prune -type f -size "+$2" 2>/dev/null)
set --
for f in */*/[!.]*/manifest.json */*/[!.]*/checks.json; do
  if [ -L "$f" ] || { [ -e "$f" ] && [ ! -f "$f" ]; }; then printf 'odd %s\\n' "$f"
  elif [ -r "$f" ]; then
    case "
$large
" in (*"
./$f
"*) printf 'large %s\\n' "$f";; (*) set -- "$@" "$f";; esac
  elif [ -e "$f" ]; then printf 'closed %s\\n' "$f"
  fi
done
echo
[ $# -eq 0 ] || exec tar -cf - -- "$@"
"""

# $1: folders of environment and database, $2: the temporary name, $3: the final one
_MAKE = """\
mkdir -p -- "$base/$1" && cd -- "$base" || exit 1
sweep
[ ! -e "$1/$3" ] || { echo there; exit; }
[ ! -e "$1/$2" ] || { echo busy; exit; }
mkdir -- "$1/$2" && printf '%s\\n' "$PGTASKS_ROOM" > "$1/$2/.room" || exit 1
printf 'free %s\\n' "$(df -Pk -- "$1/$2" | tail -n 1)"
printf 'at %s\\n' "$base/$1/$2"
"""

# $1: the temporary folder, $2: the final name beside it
_FINISH = """\
cd -- "$1" || exit 1
find . -type d -exec chmod 700 {} + && find . -type f -exec chmod 600 {} + || exit 1
find . -exec sync -- {} + 2>/dev/null || sync
cd .. || exit 1
[ ! -e "$2" ] || { echo there; exit; }
mv -- "$1" "$2" && { sync . 2>/dev/null || sync; } && rm -f -- "$2/.room"
"""

# $1: the file, $2: the new name. Nothing that is there is written to, nor moved into: no link is
# followed
_REPLACE = """\
umask 077
set -C
{ cat > "$2"; } && [ ! -d "$1" ] && mv -f -- "$2" "$1" && exit
rm -f -- "$2"
exit 1
"""

# $1: a folder, $2: processes. What ls says of all that is no folder, then, after an empty line, the
# sum of each file as it is known. A process writes its lines at once: too few for a pipe to tear
# them.
_SUMS = """\
cd -- "$1" || exit 1
if command -v sha256sum >/dev/null; then sum=sha256sum
elif command -v shasum >/dev/null; then sum='shasum -a 256'
else echo 'neither sha256sum nor shasum is there' >&2; exit 127; fi
files=$(find . ! -type d ! -name '.*' -exec ls -lnd {} + 2>/dev/null
        find . ! -type d ! -type f -name '.*' -exec ls -lnd {} + 2>/dev/null)
printf '%s\\n\\n' "$files"
n=$(($(printf '%s\\n' "$files" | wc -l) / (4 * $2) + 1))
find . -type f ! -name '.*' -print0 | xargs -0 -P "$2" -n $((n < 32 ? n : 32)) $sum -- || :
"""


def listing(folder: str) -> Command:
    """Return what lists the backups folder: lines, then the manifests as an archive."""
    return _script(_BASE + _LIST, folder, str(LARGEST // 512), str(CHECKS // 512))


def make(folder: str, home: str, partial: str, id: str) -> Command:
    """Return what sweeps the backups folder and makes a temporary folder in it.

    Says BUSY where another run makes the same backup, THERE where it is finished.
    """
    return _script(_BASE + _MAKE, folder, home, partial, id)


def sweep(folder: str) -> Command:
    """Return what removes the temporary folders of dead runs, a line for each."""
    return _script(f'{_BASE}cd -- "$base" 2>/dev/null || exit 0\nsweep\n', folder)


def finish(partial: str, id: str) -> Command:
    """Return what makes a folder durable and gives it its name; says THERE if taken."""
    return _script(_FINISH, partial, id)


def sums(folder: str, jobs: int) -> Command:
    """Return what reads all files below a folder: lines of ls, then `SHA256  ./NAME`."""
    return _script(_SUMS, folder, str(jobs))


def pack(folder: str, names: Iterable[str]) -> Command:
    """Return what sends files and folders below a folder as an archive."""
    return _script('cd -- "$1" && shift && exec tar -cf - -- "$@"', folder, *names)


def unpack(folder: str) -> Command:
    """Return what writes the files of an archive from stdin."""
    return _script('umask 077; exec tar -xof - -C "$1"', folder)


def remove(path: str) -> Command:
    """Return what removes a file or a folder."""
    return _script('rm -rf -- "$1"', path)


def replace(path: str, beside: str) -> Command:
    """Return what puts stdin in the place of a small file; `beside` is new, its name meanwhile."""
    return _script(_REPLACE, path, beside)


def _script(text: str, *words: str) -> Command:
    return Command(("/bin/sh", "-c", text, "sh", *words), {"LC_ALL": "C"})

"""The shell scripts of a remote store: POSIX shell, one script per step.

A step costs three round trips, so each does as much as possible.
"""

from __future__ import annotations

from collections.abc import Iterable

from pgtasks.backup.format.manifest import LIMIT as LARGEST
from pgtasks.host.base import Command

BUSY, THERE = "busy", "there"
CHECKS = 64 << 10  # bytes of the file of checks

# `alive` tells whether a temporary folder belongs to an active run. The folder names the run's
# room, which the watchdog removes when the run ends, however it ends. A folder that names none
# counts as alive for one minute. One that cannot be read belongs to another account, and a folder
# of another account at the room's path does not count.
BASE = """\
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

# $1, $2: limits of a manifest and of its checks, in blocks of 512 bytes. Prints the path of the
# folder; dead folders, complete backups, dropped ones, files that are not regular or too large;
# after an empty line the manifests, as archives one after another, each with some: a command can
# take only so many names, and a shell copies all of them to add one
_LIST = """\
printf 'base %s\\n' "$base"
said=$(ls -d -- "$base/." 2>&1) || case $said in
  (*"No such file"*) echo; exit 0;;
  (*) printf '%s\\n' "$said" >&2; exit 1;;
esac
cd -- "$base" || exit 1
dead | sed 's/^/dead /'
for d in */*/[!.]*; do
  if [ -L "$d" ]; then printf 'link %s\\n' "$d"; fi
  [ ! -d "$d" ] || printf 'backup %s\\n' "$d"
done
for d in */*/.trash; do
  if [ ! -L "$d" ]; then for d in "$d"/[!.]* "$d"/.*.removing; do
    if [ -e "$d" ] || [ -L "$d" ]; then printf 'trash %s\\n' "$d"; fi
  done; fi
done
large=$(find ./*/*/[!.]*/manifest.json -prune -type f -size "+$1" 2>/dev/null
        find ./*/*/[!.]*/checks.json ./*/*/[!.]*/retention.json \\
          -prune -type f -size "+$2" 2>/dev/null)
kind() {
  if [ -L "$1" ] || { [ -e "$1" ] && [ ! -f "$1" ]; }; then kind=odd
  elif [ -r "$1" ]; then
    case "
$large
" in (*"
./$1
"*) kind=large;; (*) kind=fit;; esac
  elif [ -e "$1" ]; then kind=closed
  else kind=none
  fi
}
set --
for f in */*/[!.]*/manifest.json */*/[!.]*/checks.json */*/[!.]*/retention.json; do
  kind "$f"
  case $kind in (odd|large|closed) printf '%s %s\\n' "$kind" "$f";; esac
done
echo
for f in */*/[!.]*/manifest.json */*/[!.]*/checks.json */*/[!.]*/retention.json; do
  kind "$f"
  [ $kind = fit ] || continue
  # in an archive of its own: a file that is there twice would be a hard link
  if [ -L "${f%/*}" ]; then tar -cf - -- "$f" || exit 1; continue; fi
  set -- "$@" "$f"
  [ $# -lt 200 ] || { tar -cf - -- "$@" || exit 1; set --; }
done
[ $# -eq 0 ] || exec tar -cf - -- "$@"
"""

# $1: folders of environment and database, $2: the temporary name, $3: the final one, which must be
# free unless it is empty
_MAKE = """\
mkdir -p -- "$base/$1" && cd -- "$base" || exit 1
sweep
[ -z "$3" ] || [ ! -e "$1/$3" ] || { echo there; exit; }
[ ! -e "$1/$2" ] || { echo busy; exit; }
mkdir -- "$1/$2" && printf '%s\\n' "$PGTASKS_ROOM" > "$1/$2/.room" || exit 1
printf 'free %s\\n' "$(df -Pk -- "$1/$2" | tail -n 1)"
printf 'at %s\\n' "$base/$1/$2"
"""

# $1: the temporary folder
_SETTLE = """\
cd -- "$1" || exit 1
find . -type d -exec chmod 700 {} + && find . -type f -exec chmod 600 {} + || exit 1
find . -exec sync -- {} + 2>/dev/null || sync
"""

# then $2: the final name beside it
_FINISH = """\
cd .. || exit 1
[ ! -e "$2" ] || { echo there; exit; }
mv -- "$1" "$2" && { sync . 2>/dev/null || sync; } && rm -f -- "$2/.room"
"""

# $1: the file, $2: the new name. An existing file is not written to, an existing folder not moved
# into: no link is followed
_REPLACE = """\
umask 077
set -C
{ cat > "$2"; } && [ ! -d "$1" ] && mv -f -- "$2" "$1" && exit
rm -f -- "$2"
exit 1
"""

# $1: a folder, $2: processes, $3: whether the files are new, and flushed to the disk meanwhile.
# Prints the lines of ls for everything but folders; after an empty line the checksum of each file,
# by openssl where it is there: it can be seven times as fast as sha256sum. A process writes its
# lines in one piece that is small enough for a pipe to keep whole.
_SUMS = """\
cd -- "$1" || exit 1
[ -z "$3" ] || find . -type f -exec sync -- {} + >/dev/null 2>&1 </dev/null &
nothing=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
if case $(openssl dgst -sha256 -r /dev/null 2>/dev/null) in ($nothing*) ;; (*) false;; esac
then sum='openssl dgst -sha256 -r'
elif command -v sha256sum >/dev/null; then sum=sha256sum
elif command -v shasum >/dev/null; then sum='shasum -a 256'
else echo 'neither sha256sum nor shasum is there' >&2; exit 127; fi
files=$(find . ! -type d ! -name '.*' -exec ls -lnd {} + 2>/dev/null
        find . ! -type d ! -type f -name '.*' -exec ls -lnd {} + 2>/dev/null)
printf '%s\\n\\n' "$files"
n=$(($(printf '%s\\n' "$files" | wc -l) / (4 * $2) + 1))
find . -type f ! -name '.*' -print0 | xargs -0 -P "$2" -n $((n < 32 ? n : 32)) $sum || :
wait
"""


def listing(folder: str) -> Command:
    """Return the command that lists the backups folder: lines, then the manifests as an archive."""
    return script(BASE + _LIST, folder, str(LARGEST // 512), str(CHECKS // 512))


def make(folder: str, home: str, partial: str, id: str) -> Command:
    """Return the command that sweeps the backups folder and creates a temporary folder in it.

    It prints BUSY if another run creates the same backup, THERE if there is one of the `id`.
    """
    return script(BASE + _MAKE, folder, home, partial, id)


def sweep(folder: str) -> Command:
    """Return the command that removes the temporary folders of dead runs, a line for each."""
    return script(f'{BASE}cd -- "$base" 2>/dev/null || exit 0\nsweep\n', folder)


def settle(partial: str) -> Command:
    """Return the command that makes a folder durable."""
    return script(_SETTLE, partial)


def finish(partial: str, id: str) -> Command:
    """Return the command that makes a folder durable and renames it; it prints THERE if taken."""
    return script(_SETTLE + _FINISH, partial, id)


def sums(folder: str, jobs: int, *, new: bool = False) -> Command:
    """Return the command that reads all files below a folder: lines of ls, then `SHA256 ./NAME`.

    Files that are `new` are flushed to the disk meanwhile.
    """
    return script(_SUMS, folder, str(jobs), "new" if new else "")


def pack(folder: str, names: Iterable[str]) -> Command:
    """Return the command that sends files and folders below a folder as an archive."""
    return script('cd -- "$1" && shift && exec tar -cf - -- "$@"', folder, *names)


def unpack(folder: str) -> Command:
    """Return the command that writes the files of an archive from stdin."""
    return script('umask 077; exec tar -xof - -C "$1"', folder)


def remove(path: str) -> Command:
    """Return the command that removes a file or a folder."""
    return script('rm -rf -- "$1"', path)


def replace(path: str, beside: str) -> Command:
    """Return the command that replaces a small file by stdin, through the new file `beside`."""
    return script(_REPLACE, path, beside)


def script(text: str, *words: str) -> Command:
    """Return the command that runs a script; `words` are its arguments."""
    return Command(("/bin/sh", "-c", text, "sh", *words), {"LC_ALL": "C"})

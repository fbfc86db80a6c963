"""The shell scripts that start a command on the host.

sshd passes one line to the account's login shell, which can be any shell. Our line is always the
same and valid in all of them. The real script is the first line of stdin, so that no process list
shows it, and no unknown shell has to parse its quotes.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from pgtasks.host.base import Command

OVER = 254  # exit code of a command that does not start because its run has ended
_LOOKS = 5  # checks of the watcher during the time of `silence`

# `read` takes no byte beyond its line (POSIX), so the rest of stdin belongs to the command
_BEGIN = """/bin/sh -c 'IFS= read -r s; eval "$(printf %b "$s")"'"""

# The variables of the account that a command gets; those of an application or of libpq must not
# affect pg_dump on the host either.
_KEPT = ("HOME", "PATH", "USER", "LOGNAME", "SHELL", "TMPDIR", "LANG", "TZ")

# The mark separates the output of the login shell from that of the command.
_COMMAND = """\
umask 077
cd /
printf '\\n{mark}\\n'
printf '\\n{mark}\\n' >&2
exec env -i {variables} {argv}
"""

# A command is registered when its variables already name the room: they distinguish it from a
# process that gets its ID later. It does not start if the room is gone, because the run is over
# (the second check is for a room that was removed while the ID was written), or if a signal came
# first.
_REGISTER = (
    'f=$PGTASKS_ROOM/pids/$0; { echo $$ > "$f" && [ -e "$f" ]; } 2>/dev/null || '
    f'exit {OVER}; exec "$@"'
)

# `TERM MARK` sends a signal to the command with that mark, `-MARK` reports that it has ended; every
# line is answered. The watcher counts the time since the last line, and also acts if the watchdog
# itself is killed; the process that moves the room first ends the run. The room is moved within a
# folder that nobody else may enter, so that files of other accounts are neither read nor in the
# way.
_LIFELINE = """\
umask 077
cd /
trap '' HUP PIPE USR1
ours() {{
  [ -r /proc/self/environ ] || return 0
  tr '\\0' '\\n' 2>/dev/null < "/proc/$1/environ" | grep -qxF "PGTASKS_ROOM=$room"
}}
send() {{
  ours "$2" || return 1
  kill -"$1" "-$2" 2>/dev/null || kill -"$1" "$2" 2>/dev/null
}}
tell() {{
  i=0
  until {{ read -r p < "$room/pids/$2"; }} 2>/dev/null; do
    mkdir "$room/pids/$2" 2>/dev/null && return
    # there, and its ID not written yet
    [ -d "$room/pids/$2" ] || [ $i -ge 20 ] && return
    sleep 0.1; i=$((i+1))
  done
  # a process that execs in that moment has no variables
  send "$1" "$p" || {{ sleep 0.1; send "$1" "$p"; }}
}}
all() {{
  found=1
  for f in "$own/gone"/pids/*; do
    {{ read -r p < "$f"; }} 2>/dev/null && send "$1" "$p" && found=0
  done
  return $found
}}
sweep() {{
  if all TERM || {{ sleep 0.1; all TERM; }}; then
    i=0
    while all 0 && [ $i -lt 50 ]; do sleep 0.1; i=$((i+1)); done
    all KILL
  fi
  rm -rf "$own"
}}
over() {{
  mv "$room" "$own/gone" 2>/dev/null || exit
  kill -KILL "$1" 2>/dev/null
  sweep
  trap '' TERM
  kill -TERM 0
  kill "$PPID" 2>/dev/null
  exit 0
}}
# rooms whose lifeline was killed with its watcher: those of this account alone
for own in "${{TMPDIR:-/tmp}}"/pgtasks-??????????; do
  [ -d "$own" ] && [ ! -L "$own" ] && [ -O "$own" ] && [ -f "$own/lifeline" ] || continue
  {{ read -r p < "$own/lifeline"; }} 2>/dev/null || continue
  kill -0 "$p" 2>/dev/null && continue
  room=$own/room
  mv "$room" "$own/gone" 2>/dev/null
  sweep
done
own=$(mktemp -d "${{TMPDIR:-/tmp}}/pgtasks-XXXXXXXXXX") || exit 253
room=$own/room
mkdir "$room" "$room/pids" && echo $$ > "$own/lifeline" || exit 253
(
  quiet=0
  trap 'quiet=0' USR1
  while [ $quiet -lt {patience} ]; do sleep {pause}; quiet=$((quiet+1)); done
  over $$
) </dev/null >/dev/null 2>&1 &
watcher=$!
printf '\\n{mark} %s\\n' "$room"
while IFS= read -r l; do
  kill -USR1 $watcher
  case $l in
    ([A-Z]*) tell ${{l% *}} ${{l#* }} ;;
    (-*) rm -f "$room/pids/${{l#-}}" ;;
  esac
  echo .
done
over $watcher
"""


def begin(sudo_user: str = "") -> str:
    """Return the line for the login shell; with `sudo_user` the rest runs as that account.

    Below sudo the script gets a session of its own, as sshd gives one to every command.
    """
    if sudo_user:
        return f"exec sudo -n -H -u {sudo_user} -- setsid -w {_BEGIN}"
    return f"exec {_BEGIN}"


def begin_lifeline(sudo_user: str = "") -> str:
    """Return the login shell's line for the watchdog, whose end ends the connection.

    Below sudo it may not end sshd's session; the account's own shell above it does.
    """
    if sudo_user:
        below = begin(sudo_user).removeprefix("exec ")
        line = f'{below}; s=$?; case $s in 0|137) kill "$PPID"; esac; exit $s'
        return f"exec /bin/sh -c {shlex.quote(line)}"
    return begin()


def command(wanted: Command, mark: str, room: str) -> bytes:
    """Return the line that starts a command in a run's folder, printing `mark` first."""
    argv = ("/bin/sh", "-c", _REGISTER, mark, *wanted.argv) if room else wanted.argv
    variables = {**wanted.env, **({"PGTASKS_ROOM": room} if room else {})}
    return _line(_COMMAND.format(mark=mark, variables=_given(variables), argv=shlex.join(argv)))


def _given(variables: Mapping[str, str]) -> str:
    kept = [f'${{{name}+{name}="${name}"}}' for name in _KEPT]
    return " ".join([*kept, *(shlex.quote(f"{key}={value}") for key, value in variables.items())])


def lifeline(mark: str, silence: int) -> bytes:
    """Return the line of the watchdog, which owns a run's folder and cleans up after it.

    If it hears nothing for `silence` seconds, or its stdin ends, the run is over: it terminates
    the run's processes, then kills them, removes the folder, and ends the SSH session.
    """
    pause = max(1, silence // _LOOKS)
    return _line(_LIFELINE.format(mark=mark, pause=pause, patience=-(-silence // pause)))


def _line(script: str) -> bytes:
    """Return a script in one line, for printf's %b."""
    return script.replace("\\", "\\\\").replace("\n", "\\n").encode() + b"\n"

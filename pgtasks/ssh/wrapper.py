"""The shell text that starts a command on the host.

sshd hands one line to the account's login shell, whatever that is. Ours is always the same and
valid in all of them; the real script comes as the first line of stdin, so that no process list
shows it and nothing has to survive a foreign shell's quoting.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from pgtasks.host import Command

# `read` takes no byte beyond its line (POSIX), so what follows on stdin is the command's own
_BEGIN = """/bin/sh -c 'IFS= read -r s; eval "$(printf %b "$s")"'"""

# What a command sees of the account's own variables; an application's or libpq's are no business
# of pg_dump there either.
_KEPT = ("HOME", "PATH", "USER", "LOGNAME", "SHELL", "TMPDIR", "LANG", "TZ")

# The mark tells what a login shell printed from what the command prints.
_COMMAND = """\
umask 077
cd /
printf '\\n{mark} %s\\n' $$
printf '\\n{mark}\\n' >&2
exec env -i {variables} {argv}
"""

# A command is registered where its own variables name the room already: by these it is told from
# a process that got its ID later. Without the room (the lifeline is gone) it does not start.
_REGISTER = 'echo $$ > "$PGTASKS_ROOM/pids/$0" || exit 254; exec "$@"'

# `TERM 123` sends a signal, `-MARK` says that a command has ended; every line is answered.
_LIFELINE = """\
umask 077
cd /
trap '' HUP PIPE
# rooms whose lifeline was killed
for d in "${{TMPDIR:-/tmp}}"/pgtasks-??????????*; do
  {{ read -r p < "$d/lifeline"; }} 2>/dev/null || continue
  kill -0 "$p" 2>/dev/null || rm -rf "$d" 2>/dev/null
done
room=$(mktemp -d "${{TMPDIR:-/tmp}}/pgtasks-XXXXXXXXXX") || exit 253
mkdir "$room/pids" && echo $$ > "$room/lifeline" || exit 253
printf '\\n{mark} %s\\n' "$room"
ours() {{
  [ -r /proc/self/environ ] || return 0
  grep -qs "PGTASKS_ROOM=$room" "/proc/$1/environ"
}}
send() {{
  ours "$2" || return 1
  kill -"$1" -- "-$2" 2>/dev/null || kill -"$1" "$2" 2>/dev/null
}}
all() {{
  found=1
  for f in "$room.gone"/pids/*; do
    {{ read -r p < "$f"; }} 2>/dev/null && send "$1" "$p" && found=0
  done
  return $found
}}
if command -v timeout >/dev/null; then
  hear() {{ timeout {silence} sh -c 'IFS= read -r l && printf %s "$l"'; }}
else
  hear() {{ IFS= read -r l && printf %s "$l"; }}
fi
while l=$(hear); do
  case $l in
    ([A-Z]*) send ${{l% *}} ${{l#* }} ;;
    (-*) rm -f "$room/pids/${{l#-}}" ;;
  esac
  echo .
done
# nothing can register from here on
mv "$room" "$room.gone"
if all TERM; then
  i=0
  while all 0 && [ $i -lt 50 ]; do sleep 0.1; i=$((i+1)); done
  all KILL
fi
rm -rf "$room.gone"
kill "$PPID" 2>/dev/null
"""


def begin(sudo_user: str = "") -> str:
    """Return the line for the login shell; with `sudo_user` all that follows runs as that account.

    Below sudo the script gets a session of its own, as sshd gives one to every command.
    """
    if sudo_user:
        return f"exec sudo -n -H -u {sudo_user} -- setsid -w {_BEGIN}"
    return f"exec {_BEGIN}"


def command(wanted: Command, mark: str, room: str) -> bytes:
    """Return the line that starts a command in a run's room, saying `mark` and its process ID."""
    argv = ("/bin/sh", "-c", _REGISTER, mark, *wanted.argv) if room else wanted.argv
    variables = {**wanted.env, **({"PGTASKS_ROOM": room} if room else {})}
    return _line(_COMMAND.format(mark=mark, variables=_given(variables), argv=shlex.join(argv)))


def _given(variables: Mapping[str, str]) -> str:
    kept = [f'${{{name}+{name}="${name}"}}' for name in _KEPT]
    return " ".join([*kept, *(shlex.quote(f"{key}={value}") for key, value in variables.items())])


def lifeline(mark: str, silence: int) -> bytes:
    """Return the line of the process that keeps a run's room and its promises there.

    When it hears nothing for `silence` seconds, or its stdin ends, the run is over: whatever it
    started is ended, first gently, its room goes, and then the SSH session with all tunnels in it.
    """
    return _line(_LIFELINE.format(mark=mark, silence=silence))


def _line(script: str) -> bytes:
    """Return a script in one line, as printf's %b reads it."""
    return script.replace("\\", "\\\\").replace("\n", "\\n").encode() + b"\n"

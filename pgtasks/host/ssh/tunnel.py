"""Tunnels: a local socket whose connections are forwarded to the server of a host."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pgtasks.errors import PgtasksError, Unreachable
from pgtasks.host import tempfiles
from pgtasks.host.base import Command
from pgtasks.host.ssh.link import ChannelForbidden, Link
from pgtasks.host.ssh.process import CHUNK, RemoteProcess, write
from pgtasks.host.worker import Worker, limited
from pgtasks.settings import libpq
from pgtasks.settings.target import End, Target

if TYPE_CHECKING:
    from paramiko import Channel

_LONGEST = 50  # bytes of a folder's path; the path of a socket has at most about 100 (unix(7))
_WAITING = 64  # connections

# Connects stdin and stdout to a Unix socket, with the first available program. It is for hosts
# whose sshd does not forward sockets, and for sudo: the server then sees the account of the
# program.
_RELAY = """
if command -v socat >/dev/null; then exec socat -t 86400 - UNIX-CONNECT:"$1"; fi
for p in python3 python; do command -v $p >/dev/null && exec $p -c '
import os, socket, sys, threading
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
def up():
    while True:
        d = os.read(0, 65536)
        if not d: break
        s.sendall(d)
    s.shutdown(1)
threading.Thread(target=up, daemon=True).start()
while True:
    d = s.recv(65536)
    if not d: break
    while d: d = d[os.write(1, d):]
' "$1"; done
command -v perl >/dev/null && exec perl -MIO::Socket::UNIX -e '
$s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die "$ARGV[0]: $!\\n"; $p = fork;
($from, $to) = $p ? ($s, *STDOUT) : (*STDIN, $s);
while (sysread $from, $b, 65536) {
  for ($o = 0; $o < length $b; ) { $o += syswrite $to, $b, length($b) - $o, $o or die $! }
}
if ($p) { kill 15, $p } else { shutdown $s, 1 }
' "$1"
if command -v nc >/dev/null; then
  nc -h 2>&1 | grep -q -e '[[:space:]]-N[[:space:]]' && exec nc -N -U "$1"
  exec nc -U "$1"
fi
echo "none of socat, python3, perl and nc is there to reach $1" >&2; exit 127
"""


class Tunnel:
    """A listening socket on this machine; `end` is its address for clients.

    It is a Unix socket in a folder that only this user may enter, so that nobody else can use the
    tunnel. With TLS it is a port of 127.0.0.1, because libpq does not use TLS on Unix sockets.
    """

    def __init__(self, link: Link, target: Target) -> None:
        self.link, self.target = link, target
        self.fault = ""  # why the last connection failed
        self._carry = self._way()
        self._folder = ""
        self._listener = self._listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _way(self) -> Callable[[socket.socket], None]:
        """Return the function that opens a channel, after one successful attempt."""
        path = libpq.socket_path(self.target.host, self.target.port)
        if not self.target.socket:
            address = self.target.parameters.get("hostaddr") or self.target.host
            self.link.port(address, self.target.port).close()
            return lambda client: _carried(client, self.link.port(address, self.target.port))
        if not self.link.login.sudo_user:
            try:
                self.link.socket(path).close()
                return lambda client: _carried(client, self.link.socket(path))
            except (ChannelForbidden, Unreachable):
                # sshd reports the same for a forbidden socket as for a missing one
                if self.link.lost:
                    raise
        relay = Command(("/bin/sh", "-c", _RELAY, "relay", path))
        trial = RemoteProcess(self.link, relay, stdin=None, stdout=None)
        with limited(self.link.login.channel_timeout, trial.close):
            message = trial.words().decode(errors="replace").strip()
            code = trial.wait()
        if code != 0:
            raise Unreachable(
                f"{self.link}: {path}: {message.splitlines()[-1] if message else 'no message'}"
            )
        return lambda client: self._relayed(client, relay)

    def _relayed(self, client: socket.socket, relay: Command) -> None:
        process = RemoteProcess(self.link, relay, stdin=client.fileno(), stdout=client.fileno())
        process.words()
        process.wait()
        _shut(client)

    def _listen(self) -> socket.socket:
        if _wants_tls(self.target):
            listener = socket.create_server(("127.0.0.1", 0))
            self.end = End("127.0.0.1", listener.getsockname()[1])
            return listener
        self._folder = str(tempfiles.folder(within=_place()))
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(libpq.socket_path(self._folder, self.target.port))
        listener.listen(_WAITING)
        self.end = End(self._folder, self.target.port)
        return listener

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            self.fault = ""
            try:
                self._carry(client)
            except (PgtasksError, OSError) as exc:
                self.fault = str(exc)  # the client gets a closed connection

    def close(self) -> None:
        """Stop listening; open connections end with their clients or the SSH connection."""
        try:
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread
        except OSError:
            pass  # some systems cannot shut down a listening socket: there the thread remains
        self._listener.close()
        if self._folder:
            tempfiles.remove(Path(self._folder))


def _wants_tls(target: Target) -> bool:
    return not target.socket and libpq.wants_tls(target.parameters)


def _carried(client: socket.socket, channel: Channel) -> None:
    """Copy data in both directions between a client and a channel, until both have ended."""
    up = Worker(_sent, client, channel)
    up.start()
    try:
        while data := channel.recv(CHUNK):
            write(client.fileno(), data)
    finally:
        channel.close()
        _shut(client)
        up.wait()


def _sent(client: socket.socket, channel: Channel) -> None:
    try:
        while data := client.recv(CHUNK):
            channel.sendall(data)
    except OSError:
        pass  # one side is closed
    finally:
        channel.close()  # a client of PostgreSQL that stops sending does not expect an answer


def _shut(client: socket.socket) -> None:
    try:
        client.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is closed already


def _place() -> str:
    """Return the folder for temporary files, /tmp if its path is too long for a socket."""
    folder = tempfile.gettempdir()
    return folder if len(os.fsencode(folder)) <= _LONGEST else "/tmp"  # nosec B108

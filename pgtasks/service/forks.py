"""What a forked process does at its start with the objects that it has inherited.

Their threads do not run there, and a lock that one of them held would stay held.
"""

from __future__ import annotations

import os
import socket
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

_known: weakref.WeakKeyDictionary[Any, list[Callable[[Any], None]]] = weakref.WeakKeyDictionary()


def in_children(owner: Any, call: Callable[[Any], None]) -> None:
    """Call a function with an object in each process that is forked while the object is there.

    The function must not hold the object.
    """
    _known.setdefault(owner, []).append(call)


def cut_off(connections: Iterable[Any]) -> None:
    """Let what this process does with connections of its parent reach nobody, and fail.

    Their descriptors get a socket whose other end is closed. The parent's stay as they are.
    """
    unheard, end = socket.socketpair()
    end.close()
    with unheard:
        for connection in connections:
            with suppress(Exception):  # one that was lost has no descriptor
                os.dup2(unheard.fileno(), connection.fileno(), inheritable=False)


def _begin() -> None:
    for owner, calls in tuple(_known.items()):
        for call in calls:
            call(owner)


if hasattr(os, "register_at_fork"):  # once: the system forgets none of them
    os.register_at_fork(after_in_child=_begin)

"""What a forked process does at its start with the objects that it has inherited.

Their threads do not run there, and a lock that one of them held would stay held.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any

_known: weakref.WeakKeyDictionary[Any, list[Callable[[Any], None]]] = weakref.WeakKeyDictionary()


def in_children(owner: Any, call: Callable[[Any], None]) -> None:
    """Call a function with an object in each process that is forked while the object is there.

    The function must not hold the object.
    """
    _known.setdefault(owner, []).append(call)


def _begin() -> None:
    for owner, calls in tuple(_known.items()):
        for call in calls:
            call(owner)


if hasattr(os, "register_at_fork"):  # once: the system forgets none of them
    os.register_at_fork(after_in_child=_begin)

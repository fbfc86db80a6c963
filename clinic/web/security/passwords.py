"""Hashes of passwords (argon2id), and which passwords are refused."""

from __future__ import annotations

import functools
import os
import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from clinic.web.factory import clinic

_RUNS = ("0123456789", "abcdefghijklmnopqrstuvwxyz", "qwertyuiopasdfghjklzxcvbnm", "qwertzuiop")
_SHORT = 4  # characters of a word that adds nothing


def hashed(password: str) -> str:
    """Return the hash of a password, which is not longer than the settings allow."""
    if len(password) > clinic().security.password_max:
        raise ValueError("a password is too long to be hashed")
    hasher, _ = _hashing()
    return _workers().submit(hasher.hash, _encoded(password)).result()


def verified(password_hash: str | None, password: str) -> bool:
    """Return whether a hash is that of a password.

    None stands for a user that does not exist: the answer is no, after the same time. So it is for
    a hash of another kind than argon2. A password that is too long is refused before it is hashed.
    """
    if len(password) > clinic().security.password_max:
        return False
    hasher, dummy = _hashing()
    given = _encoded(password)
    return _workers().submit(_compared, hasher, password_hash, dummy, given).result()


def outdated(password_hash: str) -> bool:
    """Return whether a hash was made with other parameters than those of the settings."""
    try:
        return _hashing()[0].check_needs_rehash(password_hash)
    except InvalidHashError:
        return True


def weakness(password: str, *, username: str) -> str:
    """Return why a new password is refused, for a form (`at least 12 characters`); empty if not."""
    security = clinic().security
    if len(password) < security.password_min:
        return f"at least {security.password_min} characters"
    if len(password) > security.password_max:
        return f"at most {security.password_max} characters"
    if "\0" in password:
        return "no character that cannot be typed"
    plain = password.casefold()
    if username and (plain == username.casefold() or _rest(plain, username.casefold()) <= _SHORT):
        return "not your user name"
    if _repeats(plain) or _is_run(plain):
        return "not the same few characters again and again"
    if security.password_common and _is_common(plain):
        return "not one of the most common passwords"
    return ""


def _encoded(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")  # half a character is no fault of ours


@functools.cache
def _workers() -> ThreadPoolExecutor:
    """Return the threads that hash: as many as there are processors, whatever the requests.

    A hash takes 19 MiB, which the allocator keeps for each thread that has made one.
    """
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="argon2")


if hasattr(os, "register_at_fork"):  # a forked process has none of the threads
    os.register_at_fork(after_in_child=_workers.cache_clear)


def _compared(
    hasher: PasswordHasher, password_hash: str | None, dummy: str, password: bytes
) -> bool:
    try:
        return hasher.verify(password_hash or dummy, password) and password_hash is not None
    except InvalidHashError:
        _decline(hasher, dummy, password)
        return False
    except VerificationError:
        return False


def _decline(hasher: PasswordHasher, dummy: str, password: bytes) -> None:
    try:
        hasher.verify(dummy, password)
    except VerificationError:
        pass


def _hashing() -> tuple[PasswordHasher, str]:
    security = clinic().security
    return _hasher(security.argon2_memory, security.argon2_time, security.argon2_parallelism)


@functools.cache
def _hasher(memory: int, time: int, parallelism: int) -> tuple[PasswordHasher, str]:
    """Return what hashes with these parameters, and a hash that no password is known for."""
    hasher = PasswordHasher(time_cost=time, memory_cost=memory, parallelism=parallelism)
    return hasher, hasher.hash(secrets.token_bytes(32))


def _rest(plain: str, username: str) -> int:
    """Return how many characters a password has beside the user name; all, if it is not in it."""
    return len(plain.replace(username, "", 1)) if username in plain else len(plain)


def _repeats(plain: str) -> bool:
    """Return whether a password is a piece of half its length or less, again and again."""
    period = (plain + plain).find(plain, 1)
    return period <= len(plain) // 2


def _is_run(plain: str) -> bool:
    """Return whether characters follow each other as on a keyboard, forwards or backwards."""
    times = -(-len(plain) // 10) + 1
    return any(plain in row * times or plain[::-1] in row * times for row in _RUNS)


def _is_common(plain: str) -> bool:
    """Return whether it is a common password, or hardly more than one: `Dragon2024!!`."""
    common = _common()
    if plain in common:
        return True
    words = re.findall(r"[^\W\d_]+|\d+", plain)
    return 0 < len(words) <= 3 and all(
        word in common or len(word) <= _SHORT or _is_run(word) for word in words
    )


@functools.cache
def _common() -> frozenset[str]:
    lines = Path(__file__).with_name("common.txt").read_text("utf-8").splitlines()
    return frozenset(line for line in lines if not line.startswith("# ") and line != "#")

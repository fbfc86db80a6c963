"""The key of masks: HMAC-SHA256, computed by the server of the source.

The server gets the two padded keys of HMAC as settings of the session, in the packet that starts
it. No statement contains them, so that neither pg_stat_activity nor a log does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from pgtasks.errors import BadConfiguration
from pgtasks.settings.secret import Secret

INNER, OUTER = "pgtasks.mask_inner", "pgtasks.mask_outer"
_SHORTEST = 16  # characters
_BLOCK = 64  # bytes of a block of SHA-256


def check(key: Secret, environment: str) -> None:
    """Raise BadConfiguration for a key that can be guessed."""
    if len(key.reveal()) < _SHORTEST:
        raise BadConfiguration(
            f"environment {environment!r}: the key of the masks has fewer than {_SHORTEST} "
            "characters: `openssl rand -hex 32` prints a good one"
        )


def session_settings(key: Secret) -> Mapping[str, Secret]:
    """Return the settings of a session that masks."""
    block = hashlib.sha256(key.reveal().encode()).digest().ljust(_BLOCK, b"\0")
    return {
        INNER: Secret(bytes(byte ^ 0x36 for byte in block).hex()),
        OUTER: Secret(bytes(byte ^ 0x5C for byte in block).hex()),
    }


def digest(text: str, encoding: str) -> str:
    """Return the SQL of the HMAC of a text, of type bytea; `encoding` is the database's."""
    own = "SQL_ASCII" if encoding == "SQL_ASCII" else "UTF8"
    inner, outer = (f"decode(current_setting('{name}'), 'hex')" for name in (INNER, OUTER))
    return f"sha256({outer} || sha256({inner} || convert_to({text}, '{own}')))"

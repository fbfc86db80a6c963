"""Browsers that somebody has logged in with before.

Their failed logins are counted apart from those of everybody else, so that an attacker who guesses
at an account does not shut its user out. The cookie names a browser and gives no access.
"""

from __future__ import annotations

from flask import Response, current_app, request
from itsdangerous import BadSignature, URLSafeTimedSerializer

_COOKIE = "clinic_device"
_AGE = 180 * 24 * 3600  # seconds


def known() -> str:
    """Return the name of the browser, empty for one that is new or whose cookie is forged."""
    cookie = request.cookies.get(_COOKIE, "")
    try:
        device = _signer().loads(cookie, max_age=_AGE)
    except BadSignature:
        return ""
    return device if isinstance(device, str) else ""


def remember(response: Response, device: str) -> Response:
    """Name the browser in a cookie, after a login in it: `device` is that of the account."""
    response.set_cookie(
        _COOKIE,
        _signer().dumps(device),
        max_age=_AGE,
        secure=current_app.config["SESSION_COOKIE_SECURE"],
        httponly=True,
        samesite=current_app.config["SESSION_COOKIE_SAMESITE"],
    )
    return response


def _signer() -> URLSafeTimedSerializer:
    keys = [*reversed(current_app.config["SECRET_KEY_FALLBACKS"]), current_app.secret_key]
    return URLSafeTimedSerializer(keys, salt="device")  # the last one signs

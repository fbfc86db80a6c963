"""The application, made from the settings of an environment."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flask import Flask, current_app
from werkzeug.middleware.proxy_fix import ProxyFix

from clinic.web import headers
from pgtasks.errors import BadConfiguration
from pgtasks.service import DatabaseService, get_security_settings, get_signing_keys
from pgtasks.service import flask as database
from pgtasks.settings.secret import Secret
from pgtasks.settings.security import Security, check

_HERE = Path(__file__).parent
_ROLE = "clinic_app"  # sql/roles/clinic_app.sql
_BODY = 1 << 20  # bytes of a request


@dataclass(frozen=True)
class Clinic:
    """What the parts of an application share."""

    service: DatabaseService
    security: Security
    keys: tuple[Secret, ...]  # of the tokens; the first one signs
    aside: DatabaseService  # short transactions beside that of a request, see security/aside.py

    @property
    def environment(self) -> str:
        """The name of the environment."""
        return self.service.name

    @property
    def protected(self) -> bool:
        """Return whether the environment is protected."""
        return self.service.environment.protected


def create_app(
    env: str | None = None, *, url: str = "", security: dict[str, Any] | None = None
) -> Flask:
    """Return the application for an environment, by default that of the process.

    `url` is for a login of its own in place of the environment's user; `security` replaces settings
    of the block `security`, in tests. Nothing is connected to. Raises BadConfiguration for wrong
    settings, for a protected environment without a signing key, and where row-level security would
    hold for nobody.
    """
    app = Flask("clinic.web", root_path=str(_HERE))
    service = DatabaseService(env, url=url)
    if not url and service.pool.role != _ROLE:
        raise BadConfiguration(
            f"environment {service.name!r}: pool.role: {service.pool.role!r}, expected {_ROLE!r}: "
            "the owner of the tables sees the rows of all hospitals"
        )
    database.init_app(app, service)
    settings = replace(get_security_settings(service.name), **(security or {}))
    check(
        settings,
        name=service.name,
        protected=service.environment.protected,
        layer=lambda _: "create_app(security=...)",
    )
    keys = get_signing_keys(service.name)
    app.extensions["clinic"] = Clinic(
        service, settings, keys, aside=DatabaseService(env, url=url, pool_size=2, max_overflow=6)
    )
    _configure(app, settings, keys)
    headers.init_app(app, hsts=settings.hsts)
    app.register_blueprint(database.health())
    _register(app)
    return app


def clinic() -> Clinic:
    """Return what the parts of the current application share."""
    shared: Clinic = current_app.extensions["clinic"]
    return shared


def _configure(app: Flask, security: Security, keys: tuple[Secret, ...]) -> None:
    cookie_keys = [_derived(key, "cookies") for key in keys]
    app.config.update(
        SECRET_KEY=cookie_keys[0],
        SECRET_KEY_FALLBACKS=cookie_keys[1:],
        # browsers keep others of the domain from setting a cookie whose name begins like this
        SESSION_COOKIE_NAME="__Host-clinic" if security.cookie_secure else "clinic",
        SESSION_COOKIE_SECURE=security.cookie_secure,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE=security.cookie_samesite,
        PERMANENT_SESSION_LIFETIME=security.remember_lifetime,
        WTF_CSRF_TIME_LIMIT=security.session_lifetime,
        WTF_CSRF_SSL_STRICT=security.cookie_secure,
        MAX_CONTENT_LENGTH=_BODY,
        MAX_FORM_MEMORY_SIZE=_BODY,
        MAX_FORM_PARTS=200,
    )
    if security.proxies:
        count = security.proxies
        proxied = ProxyFix(app.wsgi_app, x_for=count, x_proto=count, x_host=count)
        app.wsgi_app = proxied  # type: ignore[method-assign]


def _derived(key: Secret, purpose: str) -> bytes:
    """Return a key for one purpose, so that what one of them signs means nothing to another."""
    return hmac.digest(key.reveal().encode(), purpose.encode(), hashlib.sha256)


def _register(app: Flask) -> None:
    from clinic.web import api, pages

    pages.init_app(app)  # with the CSRF tokens of forms, which the API is then excepted from
    api.init_app(app)

"""What each answer tells the browser to refuse."""

from __future__ import annotations

from flask import Flask, Response, request

# everything comes from here, and nothing that a page says is run: no script or style within it
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_ALWAYS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
}


def init_app(app: Flask, *, hsts: int) -> None:
    """Send the headers with each answer; `hsts` is in seconds, 0 for a site without TLS."""

    @app.after_request
    def _send(response: Response) -> Response:
        response.headers.update(_ALWAYS)
        if hsts:
            response.headers["Strict-Transport-Security"] = f"max-age={hsts}; includeSubDomains"
        if request.endpoint != "static" and "Cache-Control" not in response.headers:
            response.headers["Cache-Control"] = "no-store"  # what one user reads is no other's
        return response

"""What can go wrong with a login, a token or an account.

SecurityError
├── LoginFailed          401  the same for an unknown user, a wrong password, an inactive account
├── TooMany              429  `seconds`: how long to wait
│   ├── LoginDelayed
│   └── RateLimited
├── TokenInvalid         401
│   ├── TokenExpired
│   └── TokenReused
├── TokenJustUsed        409
└── FieldError           422  `field`: what the message is about
    ├── UsernameTaken    409
    ├── UsernameInvalid
    ├── WrongPassword
    ├── WeakPassword
    └── UnknownBranch

The text of each is for the user: it says nothing that a stranger may not know.
"""

from __future__ import annotations


class SecurityError(Exception):
    """What a route answers with an error of the client's."""


class LoginFailed(SecurityError):
    """The user name and the password are not those of an active account."""

    def __init__(self) -> None:
        super().__init__("wrong user name or password")


class TooMany(SecurityError):
    """Something is refused for some seconds."""

    def __init__(self, seconds: int, what: str) -> None:
        self.seconds = seconds
        super().__init__(f"too many {what}, try again in {_span(seconds)}")


class LoginDelayed(TooMany):
    """Too many wrong passwords for this account from this address."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds, "attempts")


class RateLimited(TooMany):
    """Too many requests of a kind."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds, "requests")


class TokenInvalid(SecurityError):
    """A token is not one of ours, or does not count any more."""

    def __init__(self, message: str = "the token is not valid") -> None:
        super().__init__(message)


class TokenExpired(TokenInvalid):
    """An access token is past its time: the refresh token gives another."""

    def __init__(self) -> None:
        super().__init__("the token has expired")


class TokenReused(TokenInvalid):
    """A refresh token was used a second time: its session is revoked."""

    def __init__(self) -> None:
        super().__init__("the token was used before: the session is ended, log in again")


class TokenJustUsed(SecurityError):
    """A refresh token was used moments ago, by a request that was sent twice."""

    def __init__(self) -> None:
        super().__init__("the token has just been refreshed: use the new one")


class FieldError(SecurityError):
    """What a user entered in `field` is refused."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(message)


class UsernameTaken(FieldError):
    """There is an account of that name."""

    def __init__(self) -> None:
        super().__init__("username", "this user name is taken")


class UsernameInvalid(FieldError):
    """A user name has characters or a length that are not allowed."""

    def __init__(self) -> None:
        super().__init__(
            "username",
            "3 to 100 characters: letters a to z, digits and . _ @ + -, beginning with a letter or "
            "a digit",
        )


class WrongPassword(FieldError):
    """The current password, asked for before a change, is wrong."""

    def __init__(self) -> None:
        super().__init__("current", "this is not your current password")


class WeakPassword(FieldError):
    """A new password is refused; the message says what it has to be."""

    def __init__(self, message: str) -> None:
        super().__init__("password", message)


class UnknownBranch(FieldError):
    """There is no such branch, or it takes no registrations."""

    def __init__(self) -> None:
        super().__init__("branch_id", "choose a branch of the list")


def _span(seconds: int) -> str:
    if seconds < 90:
        return "1 second" if seconds == 1 else f"{seconds} seconds"
    return f"{-(-seconds // 60)} minutes"

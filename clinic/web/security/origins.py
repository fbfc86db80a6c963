"""Where a request comes from, as the database keeps it."""

from __future__ import annotations

import ipaddress
import re

from clinic.web.identity import Client

_LONGEST = 400  # characters of what a client says of itself
# some proxies say the port too: without a look at it, all their clients would be one origin
_WITH_PORT = re.compile(r"\[(?P<six>[^\]]+)\](?::[0-9]+)?|(?P<four>[0-9.]+):[0-9]+")
_NETWORK = 64  # bits of an IPv6 address: a subscriber has all addresses below them


def address(client: Client) -> str | None:
    """Return the address for a column of type inet, None where there is none (a socket)."""
    parsed = _parsed(client.address)
    return None if parsed is None else str(parsed)


def network(client: Client) -> str:
    """Return what counts as one origin: an IPv4 address, or the network of an IPv6 address."""
    parsed = _parsed(client.address)
    if parsed is None:
        return ""
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.ip_network((parsed, _NETWORK), strict=False))


def agent(client: Client) -> str:
    """Return what the client says it is, bounded."""
    return bounded(client.user_agent, _LONGEST)


def bounded(text: str, most: int = 200) -> str:
    """Return text that a column can hold: no NUL, nothing that is no UTF-8, not too long."""
    return text[:most].replace("\0", "").encode("utf-8", "replace").decode()


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    if told := _WITH_PORT.fullmatch(text):
        text = told["six"] or told["four"]
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])  # %eth0: not for others
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if parsed.version == 6 else None
    return mapped or parsed

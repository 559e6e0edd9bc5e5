"""Who may come in: the check of a request's host, origin and token."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Door:
    """The rules of one server. token: what every player must bring; None on a loopback address only."""

    token: str | None = None

    def refuses_page(self, host: str, token: str) -> str | None:
        """Why a page is refused, in one line; None where it is not. host: the request's Host header.

        Without a token only a loopback name is answered: a stranger's name that leads here (DNS rebinding) is not.
        """
        if self.token is None:
            return None if is_loopback(_name(host)) else f"host {host!r} is not this machine; open the printed address"
        same = secrets.compare_digest(token.encode(), self.token.encode())
        return None if same else "the token is missing or wrong; open the address that the server printed"

    def refuses_player(self, host: str, origin: str, token: str) -> str | None:
        """Why a websocket is refused, in one line; None where it is not.

        Its origin must be this very server: any page on the web can open a websocket to a loopback address.
        """
        if not _is_same(origin, host):
            return f"origin {origin!r} is not this server's own; open its page and play there"
        return self.refuses_page(host, token)


def door_for(host: str) -> Door:
    """The door of a server that listens on this address: with a new random token unless it is a loopback one."""
    return Door(None if is_loopback(host) else secrets.token_urlsafe(24))


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own, reachable from nowhere else."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _is_same(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return bool(host) and parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


def _name(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""

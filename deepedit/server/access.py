"""Who may speak to the server: a token, the addresses that web pages come from, and the names that it is called by."""

import hmac
import ipaddress
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepedit.errors import FileError
from deepedit.files import one_line
from deepedit.server.cookies import Logins

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
SHORTEST_TOKEN = 16
MEMORY_OF_ADDRESSES = 3600.0
"""Seconds for which an address that showed the token may download images without it."""
ATTEMPTS, ATTEMPTS_WITHIN = 10, 60.0
"""Wrong tokens that an address may show within so many seconds."""
MOST_ADDRESSES = 10_000


@dataclass
class Access:
    """What is asked of a request before anything else.

    3D Slicer downloads the image of the next sample by a request without a token. So an address that has shown the
    token may read images without it for an hour.

    Attributes:
        token: what a client must show; None where everybody may come.
        hosts: the names in a request's Host header that are taken, without ports; None takes all.
        origins: of web pages, besides the server's own, as ``https://viewer.example``.
        logins: of browsers; None without a token.
    """

    token: str | None = None
    hosts: frozenset[str] | None = LOOPBACK
    origins: frozenset[str] = frozenset()
    logins: Logins | None = field(init=False, default=None, repr=False)
    _seen: dict[str, float] = field(default_factory=dict, repr=False)
    _wrong: dict[str, list[float]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.token is not None:
            self.logins = Logins(self.token)

    def knows_host(self, host: str) -> bool:
        """Whether a Host header names this server."""
        return self.hosts is None or name_of_host(host) in self.hosts

    def knows_origin(self, origin: str | None, host: str) -> bool:
        """Whether a page may speak to the server: its own pages, those of `origins`, and what is no page at all."""
        if origin is None:
            return True
        scheme, separator, rest = origin.partition("://")
        own = separator and scheme in ("http", "https") and rest.lower() == host.lower()
        return bool(own) or origin.lower() in self.origins

    def admits(self, shown: str | None, address: str) -> bool:
        """Whether a client shows the token; its address is remembered then.

        Args:
            shown: the token, None without one.
            address: where the request came from.
        """
        if self.token is None:
            return True
        if shown is None or not hmac.compare_digest(shown.encode("utf-8", "surrogatepass"), self.token.encode()):
            return False
        _remember(self._seen, address, time.monotonic())
        return True

    def is_remembered(self, address: str) -> bool:
        """Whether an address has shown the token within the hour."""
        return time.monotonic() - self._seen.get(address, -MEMORY_OF_ADDRESSES) < MEMORY_OF_ADDRESSES

    def may_try(self, address: str) -> bool:
        """Whether an address has not yet shown too many wrong tokens."""
        now = time.monotonic()
        recent = [when for when in self._wrong.get(address, []) if now - when < ATTEMPTS_WITHIN]
        return len(recent) < ATTEMPTS

    def count_wrong(self, address: str) -> None:
        """An address has shown a wrong token."""
        now = time.monotonic()
        recent = [when for when in self._wrong.get(address, []) if now - when < ATTEMPTS_WITHIN]
        _remember(self._wrong, address, [*recent[-ATTEMPTS:], now])


def _remember(known: dict[str, Any], address: str, what: object) -> None:
    known.pop(address, None)
    known[address] = what
    while len(known) > MOST_ADDRESSES:
        known.pop(next(iter(known)), None)


def name_of_host(host: str) -> str:
    """The name in a Host header, without the port: ``[::1]:8000`` is ``::1``."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def accepted_hosts(host: str, more: Iterable[str]) -> frozenset[str] | None:
    """The Host headers that a server on an address takes: on loopback no other names, elsewhere all unless some are
    named.

    Args:
        host: the address that it listens on.
        more: further names, as of ``--allow-host``.
    """
    more = frozenset(name_of_host(name) for name in more)
    if is_loopback(host):
        return LOOPBACK | {name_of_host(host)} | more
    return more or None


def read_token(path: Path) -> str:
    """The token in a file.

    Raises:
        FileError: if it cannot be read, or is too short to keep anybody out.
    """
    name = one_line(path)
    try:
        token = path.read_text("utf-8").strip()
    except FileNotFoundError as error:
        raise FileError(f"{name}: no such file; write a token of your own into it") from error
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{name}: cannot be read as text; a token is one line of text") from error
    if len(token) < SHORTEST_TOKEN or not token.isprintable() or not token.isascii() or " " in token:
        raise FileError(
            f"{name}: a token is one line of at least {SHORTEST_TOKEN} letters, digits and signs without spaces; "
            'python3 -c "import secrets; print(secrets.token_urlsafe())" makes one'
        )
    return token

"""What a browser that has logged in shows in the place of the token."""

import hashlib
import hmac
import secrets
import threading
import time

COOKIE_SECONDS = 24 * 3600.0
KEY_SECONDS = 600.0


class Logins:
    """What browsers that have logged in show instead of the token.

    A cookie is signed with the token, so that it outlasts the server and ends with the token. Its name tells the server
    from others on the same machine, as browsers keep cookies by the name of the machine alone.

    Args:
        token: of the server.
    """

    def __init__(self, token: str) -> None:
        self._secret = hmac.digest(token.encode(), b"deepedit cookie", "sha256")
        self.name = f"deepedit-{hashlib.sha256(self._secret).hexdigest()[:8]}"
        self._keys: dict[str, float] = {}
        self._lock = threading.Lock()

    def cookie(self) -> str:
        """The value of a new cookie."""
        text = f"{secrets.token_urlsafe(16)}.{int(time.time() + COOKIE_SECONDS)}"
        return f"{text}.{self._signature(text)}"

    def admits(self, header: str) -> bool:
        """Whether a Cookie header has a cookie that is still good."""
        # Not above: deepedit-serve uses this module before it says that the extra server is not installed.
        from starlette.requests import cookie_parser

        text, _, signature = cookie_parser(header).get(self.name, "").rpartition(".")
        if not hmac.compare_digest(self._signature(text).encode(), signature.encode()):
            return False
        return int(text.rpartition(".")[2]) > time.time()

    def one_time_key(self) -> str:
        """A key that can be shown once, within ten minutes."""
        key = secrets.token_urlsafe(24)
        with self._lock:
            self._keys[key] = time.monotonic() + KEY_SECONDS
        return key

    def redeem(self, key: str) -> bool:
        """Whether a key is good, which it is not any more afterwards."""
        with self._lock:
            return self._keys.pop(key, 0.0) > time.monotonic()

    def _signature(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), "sha256").hexdigest()

"""API keys: a file of names and hashes, read again when it changes.

    # name   SHA-256 of the key                      what else
    camera-7 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    studio   60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752 rate=600
    operator fd61a03af4f77d870fc21e05e7e80678095c92d808cfb3b5c279ee04c74aca13 admin

Keys are long and random, so a plain hash is enough: there is nothing to guess. A name may have several
lines, so that a new key works before the old one is taken away.
"""

import hashlib
import hmac
import logging
import re
import time
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.errors import ForbiddenError, KeysError, RateError, UnauthorizedError
from serving.operations.request_record import record_of

logger = logging.getLogger("derain.keys")

KEY_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{64}")
_RATE = re.compile(r"rate=(\d+(?:\.\d+)?)")
_CHECK_EVERY_S = 1.0


@dataclass(frozen=True)
class Key:
    name: str
    sha256: str
    rate_per_minute: float | None = None
    is_admin: bool = False


def read_keys(path: Path) -> list[Key]:
    """Raises KeysError, with the line, and OSError."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    described = [(number, line.split("#")[0].split()) for number, line in enumerate(lines, 1)]
    return [_read_key(words, f"{path}, line {number}") for number, words in described if words]


class Keys:
    """The keys of a file, as they are now. What cannot be read leaves those of before in force."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys = read_keys(path)
        self._changed = path.stat().st_mtime_ns
        self._checked_s = time.monotonic()

    def find(self, secret: str) -> Key | None:
        """Takes as long whichever key it is, and whether it is one."""
        self._read_again()
        offered = hashlib.sha256(secret.encode()).hexdigest()
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, offered):
                found = key
        return found

    def _read_again(self) -> None:
        if time.monotonic() < self._checked_s + _CHECK_EVERY_S:
            return
        self._checked_s = time.monotonic()
        try:
            changed = self._path.stat().st_mtime_ns
            if changed != self._changed:
                self._keys, self._changed = read_keys(self._path), changed
                logger.info("%d keys read anew from %s", len(self._keys), self._path)
        except (OSError, KeysError) as error:
            logger.error("the keys stay as they were: %s", error)


class Rates:
    """Images a minute for each key: a bucket that fills steadily and holds what a minute brings."""

    def __init__(self, default_per_minute: float | None) -> None:
        self._default = default_per_minute
        self._buckets: dict[str, tuple[float, float]] = {}  # what is left, at what time

    def spend(self, key: Key, now_s: float) -> None:
        """One image; raises RateError where the key has none left."""
        rate = key.rate_per_minute or self._default
        if rate is not None and (left := self._left(key, rate, now_s)) < 1:
            wait_s = (1 - left) * 60 / rate
            raise RateError(f"at most {rate:g} images a minute with this key", int(wait_s) + 1)
        self.charge(key, 1, now_s)

    def charge(self, key: Key, images: int, now_s: float) -> None:
        """Images that were let in, more than are left among them: those that follow wait for them."""
        rate = key.rate_per_minute or self._default
        if rate is not None:
            self._buckets[key.name] = (self._left(key, rate, now_s) - images, now_s)

    def _left(self, key: Key, rate: float, now_s: float) -> float:
        holds = max(1.0, rate)
        left, at_s = self._buckets.get(key.name, (holds, now_s))
        return min(holds, left + (now_s - at_s) * rate / 60)


class Access:
    """Who may call. Without a file of keys everybody may, and nobody may administer."""

    def __init__(self, keys: Keys | None, rate_per_minute: float | None = None) -> None:
        self._keys = keys
        self._rates = Rates(rate_per_minute)

    def admit(self, scope: Scope, is_for_admins: bool) -> None:
        """Raises UnauthorizedError, ForbiddenError and RateError."""
        if self._keys is None:
            if is_for_admins:
                raise ForbiddenError("there are no keys here: DERAIN_KEYS names a file with an operator's")
            return
        key = self._key(Headers(scope=scope), self._keys)
        record_of(scope).key = key.name
        if is_for_admins and not key.is_admin:
            raise ForbiddenError(f"the key of {key.name} is not an operator's")
        if scope["method"] == "POST" and not is_for_admins:
            self._rates.spend(key, time.monotonic())
            record_of(scope).charge = lambda images: self._rates.charge(key, images, time.monotonic())

    @staticmethod
    def _key(headers: Headers, keys: Keys) -> Key:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        secret = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        if not secret:
            raise UnauthorizedError("a key is needed: Authorization: Bearer KEY, or X-API-Key: KEY")
        key = keys.find(secret)
        if key is None:
            raise UnauthorizedError("this key is not known")
        return key


class Restricted:
    """Middleware of a route that not everybody may call: no other way of matching paths decides who may."""

    def __init__(self, app: ASGIApp, access: Access, is_for_admins: bool) -> None:
        self._app = app
        self._access = access
        self._is_for_admins = is_for_admins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._access.admit(scope, self._is_for_admins)
        await self._app(scope, receive, send)


def _read_key(words: list[str], place: str) -> Key:
    name, *rest = words
    if not KEY_NAME.fullmatch(name) or not rest or not _HASH.fullmatch(rest[0]):
        raise KeysError(f"{place}: a line has a name of letters, digits, `.`, `_`, `-` and a SHA-256 in hex")
    rate, is_admin = None, False
    for word in rest[1:]:
        if word == "admin":
            is_admin = True
        elif (stated := _RATE.fullmatch(word)) and float(stated[1]) > 0:
            rate = float(stated[1])
        else:
            raise KeysError(f"{place}: {word!r} is neither `admin` nor `rate=` images a minute")
    return Key(name, rest[0], rate, is_admin)

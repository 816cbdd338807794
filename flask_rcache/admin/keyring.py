"""The keys that verify an administrator's tokens, and the algorithms that each of them allows.

Owns the choice of a key for a token, and the keys of a JWKS URL, which are fetched rarely. How a configured key is read
is ``config.jwt_keys``'s. What a token may say, and who is admitted, is ``guard``'s.
"""

from __future__ import annotations

import http.client
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import jwt

from ..config.jwt_keys import ASYMMETRIC, KeyAndAlgorithms, algorithms_of, configured_key, narrowed, need_cryptography
from ..config.redaction import redacted
from ..errors import AuthError, ConfigError
from ..model.forks import new_lock
from ..model.named_tuple import NamedTuple

__all__ = ["FixedKey", "KeyAndAlgorithms", "Keyring", "RemoteKeys", "fixed_key", "remote_keys"]

logger: Final = logging.getLogger("flask_rcache")

_SETTING: Final = "RCACHE_ADMIN_JWT"
_JWKS: Final = "RCACHE_ADMIN_JWKS_URL"
_NO_REDIRECTS: Final = (2, 14)


class Keyring(Protocol):
    """Finds the key for a token."""

    def key_for(self, header: Mapping[str, Any]) -> KeyAndAlgorithms:
        """The key for a token with this header, which nobody has verified yet.

        Raises:
            AuthError: there is none; the message is for the log.
        """
        ...


class FixedKey(NamedTuple):
    """The one key of the configuration."""

    key: Any
    algorithms: tuple[str, ...]

    def key_for(self, header: Mapping[str, Any]) -> KeyAndAlgorithms:
        """See :meth:`Keyring.key_for`."""
        return KeyAndAlgorithms(self.key, self.algorithms)


def fixed_key(raw: str | bytes, wanted: tuple[str, ...] = ()) -> FixedKey:
    """A key as it is configured; see :func:`~flask_rcache.config.jwt_keys.configured_key`."""
    return FixedKey(*configured_key(raw, wanted, setting=_SETTING))


class RemoteKeys:
    """The public keys behind a JWKS URL, cached for a while.

    The URL is fetched at most once in ``pause`` seconds, whatever tokens name and whether it answers or not: nobody can
    use this process to flood the provider, and a provider that is away does not slow each request. While it is away,
    cached keys work for ``longest`` seconds.

    Args:
        fetch: gets the JWKS, a mapping with ``keys``.
        wanted: narrows the algorithms that each key's kind allows.
        clock: seconds, monotonic.
    """

    lifetime: Final = 300.0
    pause: Final = 30.0
    longest: Final = 3600.0

    def __init__(
        self,
        fetch: Callable[[], Any],
        *,
        wanted: tuple[str, ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch: Final = fetch
        self._wanted: Final = narrowed(ASYMMETRIC, wanted, "a JWKS", setting=_SETTING)
        self._clock: Final = clock
        self._lock: Final = new_lock()
        self._keys: dict[str, KeyAndAlgorithms] = {}
        self._fetched = -float("inf")
        self._tried = -float("inf")

    def key_for(self, header: Mapping[str, Any]) -> KeyAndAlgorithms:
        """See :meth:`Keyring.key_for`."""
        kid = header.get("kid")
        if not isinstance(kid, str) or not kid:
            raise AuthError("the token names no key (kid), which a JWKS requires")
        if header.get("alg") not in self._wanted:
            raise AuthError(f"algorithm {header.get('alg')!r:.40} is not allowed")
        found = self._keys.get(kid)
        if found is None or self._clock() - self._fetched > self.lifetime:
            self._renew(kid)
            found = self._keys.get(kid)
        if found is None or self._clock() - self._fetched > self.longest:
            raise AuthError(f"no key {kid!r:.80} is known from {_JWKS}")
        return found

    def _renew(self, kid: str) -> None:
        """Fetch the keys, unless that was tried a moment ago or another thread has just done it."""
        # A token whose key is known does not wait while another thread fetches; others wait for that thread.
        if not self._lock.acquire(blocking=kid not in self._keys):
            return
        try:
            if self._clock() - self._tried < self.pause:
                return
            try:
                keys = self._usable(self._fetch())
            except (jwt.PyJWTError, ValueError, OSError, http.client.HTTPException) as error:
                logger.warning("[CACHE ADMIN] the keys of %s could not be fetched: %s", _JWKS, error)
            else:
                self._keys, self._fetched = keys, self._clock()
            finally:
                self._tried = self._clock()
        finally:
            self._lock.release()

    def _usable(self, answer: Any) -> dict[str, KeyAndAlgorithms]:
        listed = answer.get("keys") if isinstance(answer, dict) else None
        if not isinstance(listed, list):
            raise ValueError("the answer is not a JWKS")
        usable = {}
        for raw in listed:
            if not isinstance(raw, dict) or not isinstance(raw.get("kid"), str) or raw.get("use", "sig") != "sig":
                continue
            try:
                key = jwt.PyJWK.from_dict(raw).key
                algorithms = tuple(name for name in algorithms_of(key) if name in self._wanted)
            except (jwt.PyJWTError, ConfigError, KeyError, TypeError, ValueError, AttributeError) as error:
                # Private and symmetric keys, and what is no key: one bad key does not make the others unusable.
                logger.warning("[CACHE ADMIN] key %.80r of %s is not used: %s", raw["kid"], _JWKS, error)
                continue
            if raw.get("alg") is not None:
                algorithms = tuple(name for name in algorithms if name == raw["alg"])
            if algorithms:
                usable[raw["kid"]] = KeyAndAlgorithms(key, algorithms)
        return usable


def remote_keys(url: str, wanted: tuple[str, ...] = (), *, timeout: float = 3.0) -> RemoteKeys:
    """The keys of a JWKS URL; nothing is fetched before the first token comes.

    Args:
        url: where they are.
        wanted: narrows the algorithms that each key's kind allows.
        timeout: seconds to wait for the URL's answer.

    Raises:
        ConfigError: not ``https://`` (``http://`` only to this machine), or the packages of the extra ``jwks`` are not
            there.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # whose text may have the password in it
        raise ConfigError(f"{_JWKS} is not a URL: {redacted(url)!r:.200}") from None
    is_local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and is_local)):
        raise ConfigError(f"{_JWKS} must begin with https:// (http:// only for localhost), not {redacted(url)!r:.200}")
    need_cryptography(_JWKS)
    if _version(jwt.__version__) < _NO_REDIRECTS:
        raise ConfigError(
            f"{_JWKS} needs PyJWT 2.14 or later, whose client follows no redirects, not {jwt.__version__}: "
            'pip install "flask-rcache[jwks]"'
        )
    client = jwt.PyJWKClient(url, cache_jwk_set=False, timeout=timeout)
    return RemoteKeys(client.fetch_data, wanted=wanted)


def _version(text: str) -> tuple[int, ...]:
    """The first two numbers of a version.

    >>> _version("2.12.1")
    (2, 12)
    """
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])

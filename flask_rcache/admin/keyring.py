"""The keys that verify tokens, and the algorithms that each of them allows.

Owns the reading of a configured key (a secret or a public key, never one for the other) and the keys of a JWKS URL,
which are fetched rarely. What a token may say, and who is let in, is ``guard``'s.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlsplit

import jwt
from jwt.algorithms import HMACAlgorithm

from ..errors import AuthError, ConfigError
from ..parsers import redacted

__all__ = ["FixedKey", "KeyAndAlgorithms", "Keyring", "RemoteKeys", "fixed_key", "remote_keys"]

logger: Final = logging.getLogger("flask_rcache")

_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512", "secp256k1": "ES256K"}
_ASYMMETRIC: Final = (*_RSA, *_CURVES.values(), "EdDSA")
#: RFC 7518, 3.2: a secret at least as long as the hash. Bytes by algorithm.
_SECRETS: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
_SHORTEST_RSA: Final = 2048
_KEY: Final = "RCACHE_ADMIN_JWT_KEY"
_ALGORITHMS: Final = "RCACHE_ADMIN_JWT_ALGORITHMS"
_JWKS: Final = "RCACHE_ADMIN_JWKS_URL"
#: A public key in DER: a SEQUENCE of a SEQUENCE with an OID (SubjectPublicKeyInfo), or of a long INTEGER (PKCS #1);
#: or a certificate, whose first member is long, and begins with its version or its serial number.
_DER: Final = re.compile(
    rb"\x30(?:[\x00-\x7f]|\x81.|\x82..)(?:\x30[\x00-\x7f]\x06|\x02\x82|\x30(?:\x81.|\x82..)[\xa0\x02])", re.DOTALL
)
#: What is left around the base64 of a key that went through a .env file, a form or half a PEM.
_AROUND: Final = re.compile(rb"""-----(?:BEGIN|END)[^-]*-----|\\[nr]|["'\s=]""")
_OPENSSH: Final = re.compile(rb"(?:ssh|ecdsa|sk)-[a-z0-9-]+(?:@[a-z.]+)?\s")


class KeyAndAlgorithms(NamedTuple):
    """A key, and the algorithms that a token verified with it may use."""

    key: Any
    algorithms: tuple[str, ...]


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
    """A key as it is configured: a secret, or a public key in PEM.

    Args:
        raw: the secret or the PEM text.
        wanted: narrows the algorithms that the key's kind allows.

    Raises:
        ConfigError: it is too short, private, of a kind not supported, or a public key that is not in PEM; or
            ``wanted`` has an algorithm that is not the key's.
    """
    data = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else bytes(raw)
    text = data.strip()
    if b"-----BEGIN" in text:
        key = _public_key(text)
        return FixedKey(key, _narrowed(_algorithms_of(key), wanted, "this key"))
    if _is_public(text):
        raise ConfigError(
            f"{_KEY} is a public key or a certificate, but not in PEM: as a secret anybody could sign with it. "
            "Give the public key with its lines -----BEGIN PUBLIC KEY----- and -----END PUBLIC KEY-----"
        )
    return FixedKey(data, _narrowed(_secret_algorithms(data), wanted, f"a secret of {len(data)} bytes"))


def _secret_algorithms(secret: bytes) -> tuple[str, ...]:
    if len(secret) < _SECRETS["HS256"]:
        raise ConfigError(
            f"{_KEY} has {len(secret)} bytes, and a secret needs at least 32: make one with "
            'python -c "import secrets; print(secrets.token_hex(32))"'
        )
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except jwt.InvalidKeyError as error:
        raise ConfigError(f"{_KEY} is not usable as a secret: {error}") from error
    return tuple(name for name, length in _SECRETS.items() if len(secret) >= length)


def _is_public(text: bytes) -> bool:
    """Whether everybody may know it: a public key or a certificate that lost its PEM lines, whatever its form."""
    # Keycloak shows bare base64 of both; Kubernetes keeps a PEM in base64; .env files quote, and spell line breaks.
    if _DER.match(text) or _OPENSSH.match(text) or (text[:1] in (b"{", b"[") and b'"kty"' in text):
        return True
    bare = _AROUND.sub(b"", text).translate(bytes.maketrans(b"-_", b"+/"))
    for decode in (binascii.unhexlify, lambda data: base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)):
        try:
            decoded = decode(bare)
        except binascii.Error:
            continue
        if _DER.match(decoded) or b"-----BEGIN" in decoded:
            return True
    return False


def _public_key(pem: bytes) -> Any:
    if b"PRIVATE KEY-----" in pem:
        raise ConfigError(
            f"{_KEY} is a private key: give only the public one, and keep the other where tokens are made"
        )
    if b"BEGIN CERTIFICATE" in pem:
        raise ConfigError(f"{_KEY} is a certificate: give its public key (openssl x509 -pubkey -noout)")
    _need_cryptography(f"{_KEY} in PEM")
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        return load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{_KEY} looks like PEM but is not a public key: {error}") from error


def _algorithms_of(key: Any) -> tuple[str, ...]:
    """The algorithms of a public key's kind.

    Raises:
        ConfigError: too short, or of a kind not supported.
    """
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < _SHORTEST_RSA:
            raise ConfigError(f"an RSA key of {key.key_size} bits is too short: {_SHORTEST_RSA} or more")
        return _RSA
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return (_CURVES[key.curve.name],)
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return ("EdDSA",)
    raise ConfigError(
        f"a key of the kind {type(key).__name__} verifies no token: give an RSA, EC or Ed25519 public key"
    )


def _narrowed(allowed: tuple[str, ...], wanted: tuple[str, ...], what: str) -> tuple[str, ...]:
    foreign = [name for name in wanted if name not in allowed]
    if foreign:
        raise ConfigError(f"{_ALGORITHMS} has {', '.join(foreign)}, but {what} allows only {', '.join(allowed)}")
    return tuple(name for name in allowed if name in wanted) if wanted else allowed


def _need_cryptography(what: str) -> None:
    try:
        import cryptography  # noqa: F401  # only whether it is there
    except ImportError as error:
        raise ConfigError(f'{what} needs the package cryptography: pip install "pyjwt[crypto]"') from error


class RemoteKeys:
    """The public keys behind a JWKS URL, held for a while.

    The URL is asked at most once in ``pause`` seconds, whatever tokens name and whether it answers or not: nobody can
    use this process to press the provider, and a provider that is away does not slow each request. What was fetched is
    still used for ``hold`` seconds while it is away.

    Args:
        fetch: gets the JWKS, a mapping with ``keys``.
        wanted: narrows the algorithms that each key's kind allows.
        clock: seconds, monotonic.
    """

    lifetime: Final = 300.0
    pause: Final = 30.0
    hold: Final = 3600.0

    def __init__(
        self,
        fetch: Callable[[], Any],
        *,
        wanted: tuple[str, ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch: Final = fetch
        self._wanted: Final = _narrowed(_ASYMMETRIC, wanted, "a JWKS")
        self._clock: Final = clock
        self._lock: Final = threading.Lock()
        self._keys: dict[str, KeyAndAlgorithms] = {}
        self._fetched = -float("inf")
        self._tried = -float("inf")

    def key_for(self, header: Mapping[str, Any]) -> KeyAndAlgorithms:
        """See :meth:`Keyring.key_for`."""
        kid = header.get("kid")
        if not isinstance(kid, str) or not kid:
            raise AuthError("the token names no key (kid), and with a JWKS it has to")
        if header.get("alg") not in self._wanted:
            raise AuthError(f"algorithm {header.get('alg')!r:.40} is not allowed")
        found = self._keys.get(kid)
        if found is None or self._clock() - self._fetched > self.lifetime:
            self._renew(kid)
            found = self._keys.get(kid)
        if found is None or self._clock() - self._fetched > self.hold:
            raise AuthError(f"no key {kid!r:.80} is known from {_JWKS}")
        return found

    def _renew(self, kid: str) -> None:
        """Fetch the keys, unless that was tried a moment ago or another thread has just done it."""
        # Whose key is known goes on with it while another thread fetches; the others wait for that thread.
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
                algorithms = tuple(name for name in _algorithms_of(key) if name in self._wanted)
            except (jwt.PyJWTError, ConfigError, KeyError, TypeError, ValueError, AttributeError) as error:
                # Private and symmetric keys, and what is none: one odd key must not spoil the others.
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
        ConfigError: not ``https://`` (``http://`` only to this machine), or no package to read the keys with.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"{_JWKS} is not a URL: {error}") from error
    is_local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and is_local)):
        raise ConfigError(f"{_JWKS} must begin with https:// (http:// only for localhost), not {redacted(url)!r:.200}")
    _need_cryptography(_JWKS)
    client = jwt.PyJWKClient(url, cache_jwk_set=False, timeout=timeout)
    return RemoteKeys(client.fetch_data, wanted=wanted)

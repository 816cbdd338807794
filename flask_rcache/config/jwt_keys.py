"""Verifying tokens: what a configured key is, which algorithms its kind allows, and the one call that verifies.

Owns the reading of a key, a secret or a public one and never one for the other. Who asks for it, ``admin`` or
``views``, says which settings it comes from; what a token may say is theirs. Imported only when a key is configured:
it imports PyJWT.
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
from typing import Any, Final

import jwt
from jwt.algorithms import HMACAlgorithm

from ..errors import AuthError, ConfigError
from ..model.named_tuple import NamedTuple
from .settings import Settings

__all__ = [
    "ASYMMETRIC",
    "KeyAndAlgorithms",
    "algorithms_of",
    "configured_key",
    "narrowed",
    "need_cryptography",
    "unverified_header",
    "user_key",
    "verified_claims",
]

_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512", "secp256k1": "ES256K"}
#: The algorithms of public keys.
ASYMMETRIC: Final = (*_RSA, *_CURVES.values(), "EdDSA")
#: RFC 7518, 3.2: a secret at least as long as the hash. Bytes by algorithm.
_SECRETS: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
_SHORTEST_RSA: Final = 2048
#: A public key in DER: a SEQUENCE of a SEQUENCE with an OID (SubjectPublicKeyInfo), or of a long INTEGER (PKCS #1);
#: or a certificate, whose first member is long, and begins with its version or its serial number.
_DER: Final = re.compile(
    rb"\x30(?:[\x00-\x7f]|\x81.|\x82..)(?:\x30[\x00-\x7f]\x06|\x02\x82|\x30(?:\x81.|\x82..)[\xa0\x02])", re.DOTALL
)
#: What is left around the base64 or the digits of a key that went through a .env file, a form or half a PEM.
_AROUND: Final = re.compile(rb"""-----(?:BEGIN|END)[^-]*-----|\\[nr]|["'\s=:\[\]]""")
#: A line for OpenSSH, or what its base64 stands for.
_OPENSSH: Final = re.compile(
    rb"""["'\s]*(?:\x00\x00\x00.)?(?:ssh|ecdsa|sk)-[a-z0-9-]+(?:@[a-z.]+)?[\s\x00]""", re.DOTALL
)
#: A JWK, several of them, or a certificate beside them; as JSON, or as JSON in JSON.
_JWK: Final = re.compile(rb"""["'\s]*[{\[].*"(?:kty|x5c)\\*\"""", re.DOTALL)
#: So many times a key may have been encoded.
_ENCODED: Final = 3
_LONGEST_TOKEN: Final = 8192
#: What an invalid token raises; after the first what odd numbers, nesting or bytes raise in the library, or a key that
#: fits no algorithm.
_INVALID: Final = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)


class KeyAndAlgorithms(NamedTuple):
    """A key, and the algorithms that a token verified with it may use."""

    key: Any
    algorithms: tuple[str, ...]


def unverified_header(token: str) -> dict[str, Any]:
    """The header of a token, which anybody may have written: it says which key to try.

    Raises:
        AuthError: it is too long, or no token; the message is for the log.
    """
    if len(token) > _LONGEST_TOKEN:
        raise AuthError(f"a token of {len(token)} bytes: {_LONGEST_TOKEN} at most")
    try:
        return jwt.get_unverified_header(token)
    except _INVALID as error:
        raise AuthError(f"{type(error).__name__}: {error}") from error


def verified_claims(
    token: str,
    key: KeyAndAlgorithms,
    *,
    required: tuple[str, ...] = ("exp",),
    audience: tuple[str, ...] = (),
    issuer: str | None = None,
    leeway: float = 0,
) -> dict[str, Any]:
    """What a token claims, once its signature and its times are verified.

    Args:
        token: as it was sent.
        key: verifies it, with these algorithms only.
        required: claims that it must have.
        audience: of which ``aud`` must have one; not checked when empty.
        issuer: what ``iss`` must be; not checked when it is ``None``.
        leeway: seconds that the clocks may differ.

    Raises:
        AuthError: it is not valid; the message is for the log.
    """
    if len(token) > _LONGEST_TOKEN:
        raise AuthError(f"a token of {len(token)} bytes: {_LONGEST_TOKEN} at most")
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=list(key.algorithms),
            audience=audience or None,
            issuer=issuer,
            leeway=leeway,
            options={"require": list(required), "verify_aud": bool(audience)},
        )
    except _INVALID as error:
        raise AuthError(f"{type(error).__name__}: {error}") from error
    return claims


def user_key(settings: Settings) -> KeyAndAlgorithms | None:
    """The key that verifies users' tokens, and the algorithms it allows; ``None`` when none is set.

    Raises:
        ConfigError: it is too short, private or of a kind not supported, or the algorithms are not its own.
    """
    key, wanted = settings.user_jwt_key, settings.user_jwt_algorithms
    if not key:
        return None
    if isinstance(key, jwt.PyJWK):
        key = key.key
    if isinstance(key, str | bytes):
        return _configured_user_key(key, wanted)
    return KeyAndAlgorithms(key, wanted or algorithms_of(key))


@functools.lru_cache(maxsize=16)
def _configured_user_key(key: str | bytes, wanted: tuple[str, ...]) -> KeyAndAlgorithms:
    """The key that a text is; a PEM is not read anew for each request."""
    return configured_key(key, wanted, setting="RCACHE_USER_JWT")


def configured_key(raw: str | bytes, wanted: tuple[str, ...] = (), *, setting: str) -> KeyAndAlgorithms:
    """A key as it is configured: a secret, or a public key in PEM.

    Args:
        raw: the secret or the PEM text.
        wanted: narrows the algorithms that the key's kind allows.
        setting: what the names of its settings begin with, ``RCACHE_USER_JWT``.

    Raises:
        ConfigError: it is too short, private, of a kind not supported, or a public key that is not in PEM; or
            ``wanted`` has an algorithm that is not the key's.
    """
    data = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else bytes(raw)
    text = data.strip()
    if b"-----BEGIN" in text:
        key = _public_key(text, setting)
        return KeyAndAlgorithms(key, narrowed(algorithms_of(key), wanted, "this key", setting=setting))
    if _is_public(text):
        raise ConfigError(
            f"{setting}_KEY is a public key or a certificate, but not in PEM: as a secret anybody could sign with it. "
            "Give the public key with its lines -----BEGIN PUBLIC KEY----- and -----END PUBLIC KEY-----"
        )
    allowed = _secret_algorithms(data, setting)
    return KeyAndAlgorithms(data, narrowed(allowed, wanted, f"a secret of {len(data)} bytes", setting=setting))


def _secret_algorithms(secret: bytes, setting: str) -> tuple[str, ...]:
    if len(secret) < _SECRETS["HS256"]:
        raise ConfigError(
            f"{setting}_KEY has {len(secret)} bytes, and a secret needs at least 32: make one with "
            'python -c "import secrets; print(secrets.token_hex(32))"'
        )
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except jwt.InvalidKeyError as error:
        raise ConfigError(f"{setting}_KEY is not usable as a secret: {error}") from error
    return tuple(name for name, length in _SECRETS.items() if len(secret) >= length)


def _is_public(text: bytes, encoded: int = _ENCODED) -> bool:
    """Whether everybody may know it: a public key or a certificate that lost its PEM lines, whatever its form."""
    # Keycloak shows bare base64 of both; Kubernetes keeps a PEM in base64; .env files quote, and spell line breaks.
    if _DER.match(text) or _OPENSSH.match(text) or _JWK.match(text) or b"-----BEGIN" in text:
        return True
    if not encoded:
        return False
    bare = _AROUND.sub(b"", text).translate(bytes.maketrans(b"-_", b"+/"))
    for decode in (binascii.unhexlify, lambda data: base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)):
        try:
            decoded = decode(bare)
        except binascii.Error:
            continue
        if _is_public(decoded, encoded - 1):
            return True
    return False


def _public_key(pem: bytes, setting: str) -> Any:
    if b"PRIVATE KEY-----" in pem:
        raise ConfigError(
            f"{setting}_KEY is a private key: give only the public one, and keep the other where tokens are made"
        )
    if b"BEGIN CERTIFICATE" in pem:
        raise ConfigError(f"{setting}_KEY is a certificate: give its public key (openssl x509 -pubkey -noout)")
    need_cryptography(f"{setting}_KEY in PEM")
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        return load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{setting}_KEY looks like PEM but is not a public key: {error}") from error


def algorithms_of(key: Any) -> tuple[str, ...]:
    """The algorithms of a public key's kind.

    Raises:
        ConfigError: too short, or of a kind not supported.
    """
    need_cryptography("a public key")
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


def narrowed(allowed: tuple[str, ...], wanted: tuple[str, ...], what: str, *, setting: str) -> tuple[str, ...]:
    """The algorithms wanted, all of them without a wish.

    Raises:
        ConfigError: one is not allowed.
    """
    foreign = [name for name in wanted if name not in allowed]
    if foreign:
        raise ConfigError(f"{setting}_ALGORITHMS has {', '.join(foreign)}, but {what} allows only {', '.join(allowed)}")
    return tuple(name for name in allowed if name in wanted) if wanted else allowed


def need_cryptography(what: str) -> None:
    """Say what is missing.

    Raises:
        ConfigError: the package is not there.
    """
    try:
        import cryptography  # noqa: F401  # only whether it is there
    except ImportError as error:
        raise ConfigError(f"{what} needs the package cryptography: pip install cryptography") from error

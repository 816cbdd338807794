"""The keys that verify tokens: what a configured text is, and the algorithms that its kind allows.

Owns the reading of a key, a secret or a public one and never one for the other. Who asks for it, ``admin`` or
``views``, says which settings it comes from. What a token may say is theirs.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Final, NamedTuple

import jwt
from jwt.algorithms import HMACAlgorithm

from ..errors import ConfigError

__all__ = ["ASYMMETRIC", "KeyAndAlgorithms", "algorithms_of", "configured_key", "narrowed", "need_cryptography"]

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


class KeyAndAlgorithms(NamedTuple):
    """A key, and the algorithms that a token verified with it may use."""

    key: Any
    algorithms: tuple[str, ...]


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
        raise ConfigError(f'{what} needs the package cryptography: pip install "pyjwt[crypto]"') from error

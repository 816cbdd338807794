"""Keys and tokens for the tests of the admin API, made once for each run."""

from __future__ import annotations

import base64
import json
import time
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

SECRET = "s" * 32


def private_key(kind: str = "rsa", number: int = 0) -> Any:
    """A private key: `rsa`, `rsa1024`, `ec256`, `ec384`, `ec521`, `ed25519`; another number is another key."""
    return _made(kind, number)


@cache
def _made(kind: str, number: int) -> Any:
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, int(kind[3:] or 2048))
    if kind.startswith("ec"):
        curves = {"ec256": ec.SECP256R1(), "ec384": ec.SECP384R1(), "ec521": ec.SECP521R1()}
        return ec.generate_private_key(curves[kind])
    return ed25519.Ed25519PrivateKey.generate()


def pem(kind: str = "rsa", number: int = 0) -> str:
    """The public half of a key, in PEM."""
    return public_bytes(kind, number, Encoding.PEM).decode()


def public_bytes(
    kind: str = "rsa",
    number: int = 0,
    encoding: Encoding = Encoding.DER,
    form: PublicFormat = PublicFormat.SubjectPublicKeyInfo,
) -> bytes:
    """The public half of a key, in the encoding and the format that are asked for."""
    return bytes(private_key(kind, number).public_key().public_bytes(encoding, form))


def jwk(kind: str = "rsa", number: int = 0, **more: Any) -> dict[str, Any]:
    """The public half of a key, as a member of a JWKS; its name is the kind and the number."""
    algorithms: dict[str, Any] = {"rsa": RSAAlgorithm, "ec": ECAlgorithm, "ed": OKPAlgorithm}
    shown = algorithms[kind.rstrip("0123456789")].to_jwk(private_key(kind, number).public_key())
    return {**json.loads(shown), "kid": f"{kind}-{number}", **more}


def claims(**more: Any) -> dict[str, Any]:
    """The claims of a token that does; a claim given as `None` is left out."""
    found = {"sub": "ann", "role": "admin", "exp": int(time.time()) + 300, **more}
    return {name: value for name, value in found.items() if value is not None}


def token(key: Any = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **more: Any) -> str:
    """A signed token."""
    return jwt.encode(claims(**more), key, algorithm, headers=headers)


def by_hand(header: dict[str, Any], payload: dict[str, Any] | bytes, signature: bytes = b"") -> str:
    """A token that no library would make."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    parts = (json.dumps(header).encode(), body, signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def bearer(text: str | None = None) -> dict[str, str]:
    """The header that carries a token; without one, a token that does."""
    return {"Authorization": f"Bearer {token() if text is None else text}"}

"""Who is admitted: the attacks on tokens, one a row; the kinds of keys; the keys of a provider."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID
from jwt.algorithms import RSAAlgorithm

from flask_rcache.admin.guard import Forbidden, JwtGuard, Unauthenticated, has_role, keyring_of
from flask_rcache.admin.keyring import RemoteKeys, fixed_key, remote_keys
from flask_rcache.config.settings import load_settings
from flask_rcache.errors import AuthError, ConfigError
from tests.admin.tokens import SECRET, by_hand, claims, jwk, pem, private_key, public_bytes, token

HEADER = {"alg": "HS256", "typ": "JWT"}


def guard(key: str | bytes = SECRET, **options: Any) -> JwtGuard:
    """A guard with one key."""
    return JwtGuard(fixed_key(key), **options)


def admit(text: str, **options: Any) -> str:
    """Whom a guard admits for a token."""
    return guard(**options).admit(f"Bearer {text}")


def _stable(value: object) -> str:
    """A name for a parameter that is the same in each process; keys are made anew in each."""
    return type(value).__name__ if isinstance(value, str | bytes) and len(value) > 32 else str(value)


# What is admitted


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [
        ("rsa", "RS256"),
        ("rsa", "RS512"),
        ("rsa", "PS256"),
        ("ec256", "ES256"),
        ("ec384", "ES384"),
        ("ec521", "ES512"),
        ("ed25519", "EdDSA"),
    ],
)
def test_guard__public_keys(kind: str, algorithm: str) -> None:
    """A key of each kind lets in what its other half signed, and nothing that another key signed."""
    assert admit(token(private_key(kind), algorithm), key=pem(kind)) == "ann"
    with pytest.raises(Unauthenticated, match="InvalidSignature"):
        admit(token(private_key(kind, 1), algorithm), key=pem(kind))


@pytest.mark.parametrize(("length", "algorithms"), [(32, 1), (48, 2), (64, 3)])
def test_guard__secrets(length: int, algorithms: int) -> None:
    """A secret allows the HMACs that it is long enough for (RFC 7518, 3.2)."""
    key = "k" * length
    assert fixed_key(key).algorithms == ("HS256", "HS384", "HS512")[:algorithms]
    assert admit(token(key, f"HS{length * 8}"), key=key) == "ann"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_guard__scheme_in_any_case(scheme: str) -> None:
    """RFC 7235: the scheme's case does not matter, nor do blanks around the token."""
    assert guard().admit(f"{scheme}  {token()} ") == "ann"


@pytest.mark.parametrize(("sub", "subject"), [("ann", "ann"), (None, ""), ("", "")])
def test_guard__subject(sub: str | None, subject: str) -> None:
    """The subject is the token's; a token need not have one."""
    assert admit(token(sub=sub)) == subject


@pytest.mark.parametrize(
    ("held", "claim", "expected"),
    [
        ({"role": "admin"}, "role", True),
        ({"role": ["user", "admin"]}, "role", True),
        ({"realm_access": {"roles": ["admin"]}}, "realm_access.roles", True),
        ({"https://shop.example/role": "admin"}, "https://shop.example/role", True),
        ({"a.b": "user", "a": {"b": "admin"}}, "a.b", False),
        ({}, "role", False),
        ({"role": None}, "role", False),
        ({"role": "administrator"}, "role", False),
        ({"role": "superadmin"}, "role", False),
        ({"role": "user admin"}, "role", False),
        ({"role": "user,admin"}, "role", False),
        ({"role": "Admin"}, "role", False),
        ({"role": "admin "}, "role", False),
        ({"role": ["administrator"]}, "role", False),
        ({"role": [["admin"]]}, "role", False),
        ({"role": {"admin": True}}, "role", False),
        ({"role": True}, "role", False),
        ({"role": 1}, "role", False),
        ({"role": []}, "role", False),
        ({"realm_access": ["roles", "admin"]}, "realm_access.roles", False),
        ({"realm_access": "roles"}, "realm_access.roles", False),
    ],
    ids=lambda each: json.dumps(each) if isinstance(each, dict) else None,
)
def test_guard__role(held: dict[str, Any], claim: str, expected: bool) -> None:
    """The role is the claim, or stands in its list: exactly, never as a part of a text."""
    assert has_role(held, claim, "admin") is expected
    signed = token(**{"role": None, **held})
    if expected:
        assert admit(signed, claim=claim) == "ann"
    else:
        with pytest.raises(Forbidden, match="ann"):
            admit(signed, claim=claim)


def test_guard__numbers_are_not_their_text() -> None:
    """A claim of 1 or true is not "1" or "True"."""
    assert not has_role({"role": 1}, "role", "1")
    assert not has_role({"role": True}, "role", "True")


# What is not


NOW = int(time.time())
DAY = 86_400
ATTACKS: list[tuple[str, Callable[[], str], str]] = [
    ("no signature, alg none", lambda: by_hand({"alg": "none"}, claims()), "algorithm|alg"),
    ("no signature, alg None", lambda: by_hand({"alg": "None"}, claims()), "alg"),
    ("no signature, alg NONE", lambda: by_hand({"alg": "NONE"}, claims(), b"x"), "alg"),
    ("no signature, alg kept", lambda: by_hand(HEADER, claims()), "Signature"),
    ("no alg", lambda: by_hand({"typ": "JWT"}, claims()), "Algorithm|alg"),
    ("alg is a list", lambda: by_hand({"alg": ["HS256"]}, claims()), "."),
    ("alg is a number", lambda: by_hand({"alg": 256}, claims()), "."),
    ("other secret", lambda: token("x" * 32), "Signature"),
    ("longer HMAC than the secret's", lambda: token("s" * 64, "HS512"), "alg"),
    ("RS256 under a secret", lambda: token(private_key(), "RS256"), "alg"),
    ("signature of another token", lambda: token().rpartition(".")[0] + "." + token(a=1).rpartition(".")[2], "Sig"),
    ("claims changed", lambda: _claims_changed(), "Signature"),
    ("expired", lambda: token(exp=NOW - DAY), "Expired"),
    ("expired, as text", lambda: token(exp=str(NOW - DAY)), "Expired"),
    ("not yet valid", lambda: token(nbf=NOW + DAY), "Immature"),
    ("issued in the future", lambda: token(iat=NOW + DAY), "Immature"),
    ("no exp", lambda: token(exp=None), "exp"),
    ("exp is null", lambda: by_hand_signed({**claims(), "exp": None}), "exp"),
    ("exp is endless", lambda: by_hand_signed(b'{"role":"admin","exp":1e999}'), "."),
    ("exp is not a number", lambda: by_hand_signed(b'{"role":"admin","exp":NaN}'), "."),
    ("exp is a list", lambda: token(exp=[NOW + DAY]), "."),
    ("nbf is a text", lambda: token(nbf="soon"), "."),
    ("claims are a list", lambda: by_hand_signed(b"[1]"), "."),
    ("claims are deeply nested", lambda: by_hand_signed(b'{"a":' * 900 + b"1" + b"}" * 900), "."),
    ("header is deeply nested", lambda: "W1tb" * 1500 + ".e30.YQ", "."),
    ("critical extension", lambda: token(headers={"crit": ["x"], "x": 1}), "crit"),
    ("detached payload", lambda: token(headers={"crit": ["b64"], "b64": False}), "."),
    ("key in the header", lambda: token(private_key("rsa", 1), "RS256", {"jwk": jwk("rsa", 1)}), "alg"),
    ("key URL in the header", lambda: token("x" * 32, headers={"jku": "http://127.0.0.1:9/"}), "Signature"),
    ("kid is no text", lambda: by_hand({**HEADER, "kid": 7}, claims()), "."),
    ("huge", lambda: token(more="x" * 8192), "8192"),
    ("huge garbage", lambda: "a" * 1_000_000 + ".b.c", "8192"),
    ("garbage", lambda: "garbage", "not a signed token"),
    ("three dots", lambda: "a.b.c.d", "not a signed token"),
    ("encrypted (five parts)", lambda: "a.b.c.d.e", "not a signed token"),
    ("empty parts", lambda: "..", "not a signed token"),
    ("not base64", lambda: "a.b.c", "."),
    ("two tokens", lambda: f"{token()}, Bearer {token()}", "not a signed token"),
    ("line break", lambda: f"{token()}\n{token()}", "not a signed token"),
    ("not ASCII", lambda: "ä.ö.ü", "not a signed token"),
    ("NUL", lambda: token() + "\0", "not a signed token"),
    ("empty", lambda: "", "not a signed token"),
]


def by_hand_signed(payload: Any, key: bytes = SECRET.encode()) -> str:
    """An HS256 token that no library would make: of such claims, or with a public key as the secret."""
    unsigned = by_hand(HEADER, payload).rpartition(".")[0]
    digest = hmac.digest(key, unsigned.encode(), hashlib.sha256)
    return f"{unsigned}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def _claims_changed() -> str:
    header, _, signature = token(role="user").split(".")
    return f"{header}.{by_hand(HEADER, claims()).split('.')[1]}.{signature}"


@pytest.mark.parametrize(("make", "reason"), [row[1:] for row in ATTACKS], ids=[row[0] for row in ATTACKS])
def test_guard__attacks(make: Callable[[], str], reason: str) -> None:
    """Refused, with a reason for the log."""
    with pytest.raises(Unauthenticated, match=reason) as refused:
        guard(leeway=10).admit(f"Bearer {make()}")
    assert refused.value.given


def test_guard__the_hand_made_tokens_are_well_made() -> None:
    """What the attacks are made with makes a token that is let in, so that each fails for its own reason."""
    assert admit(by_hand_signed(claims())) == "ann"


@pytest.mark.parametrize(
    "secret", [pem().encode(), pem().strip().encode(), public_bytes(), base64.b64encode(public_bytes())]
)
def test_guard__hmac_with_the_public_key(secret: bytes) -> None:
    """The algorithm swap: whoever has the public key signs with it as if it were a secret."""
    with pytest.raises(Unauthenticated, match="alg"):
        admit(by_hand_signed(claims(), secret), key=pem())


@pytest.mark.parametrize(
    ("kind", "signer", "algorithm"),
    [("ec256", "rsa", "RS256"), ("rsa", "ec256", "ES256"), ("ec256", "ec384", "ES384"), ("ed25519", "rsa", "RS256")],
)
def test_guard__algorithm_of_another_kind(kind: str, signer: str, algorithm: str) -> None:
    """The algorithms are those of the key's kind, whatever the token says."""
    with pytest.raises(Unauthenticated, match="alg"):
        admit(token(private_key(signer), algorithm), key=pem(kind))


def test_guard__narrowed_algorithms() -> None:
    """What the setting leaves out is refused though the signature is right."""
    narrow = JwtGuard(fixed_key(pem(), ("RS512",)))
    assert narrow.admit(f"Bearer {token(private_key(), 'RS512')}") == "ann"
    with pytest.raises(Unauthenticated, match="alg"):
        narrow.admit(f"Bearer {token(private_key(), 'RS256')}")


@pytest.mark.parametrize(
    ("made", "options", "reason"),
    [
        ({"aud": "other"}, {"audience": ("cache",)}, "Audience"),
        ({}, {"audience": ("cache",)}, "aud"),
        ({"aud": ["other", "cachet"]}, {"audience": ("cache",)}, "Audience"),
        ({"aud": 7}, {"audience": ("cache",)}, "aud|Aud|claim"),
        ({"aud": "other"}, {}, None),
        ({"aud": ["other", "cache"]}, {"audience": ("cache", "shop")}, None),
        ({"iss": "https://other"}, {"issuer": "https://id"}, "Issuer"),
        ({"iss": "https://id.evil"}, {"issuer": "https://id"}, "Issuer"),
        ({}, {"issuer": "https://id"}, "iss"),
        ({"iss": "https://id"}, {"issuer": "https://id"}, None),
        ({"exp": NOW - DAY}, {"leeway": 300}, "Expired"),
        ({"nbf": NOW + DAY}, {"leeway": 300}, "Immature"),
    ],
)
def test_guard__audience_issuer_leeway(made: dict[str, Any], options: dict[str, Any], reason: str | None) -> None:
    """`aud` and `iss` are looked at when they are set, and the leeway holds for every time."""
    if reason is None:
        assert admit(token(**made), **options) == "ann"
    else:
        with pytest.raises(Unauthenticated, match=reason):
            admit(token(**made), **options)


@pytest.mark.parametrize(("claim", "seconds"), [("exp", -60), ("nbf", 60), ("iat", 60)])
def test_guard__leeway(claim: str, seconds: int) -> None:
    """Clocks that differ by a minute do not matter with a leeway of five, and do without."""
    made: dict[str, Any] = {claim: int(time.time()) + seconds}
    signed = token(**made)
    assert admit(signed, leeway=300) == "ann"
    with pytest.raises(Unauthenticated, match=r"Expired|Immature"):
        admit(signed)


@pytest.mark.parametrize("header", [None, "", "Basic YTpi", "Token abc", "Bearer", "abc"])
def test_guard__no_token(header: str | None) -> None:
    """Without a bearer token nobody is let in; another scheme is not a wrong token."""
    with pytest.raises(Unauthenticated) as refused:
        guard().admit(header)
    assert refused.value.given is (header == "Bearer")


def test_guard__the_longest_token() -> None:
    """A token of 8 KB is read, one more byte is not."""
    longest = "a" * 8188 + ".b.c"
    with pytest.raises(Unauthenticated, match="DecodeError"):
        guard().admit(f"Bearer {longest}")
    with pytest.raises(Unauthenticated, match="8193"):
        guard().admit(f"Bearer a{longest}")


# Keys that are refused at the start


PRIVATE_PEM = private_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
DER = public_bytes()
OPENSSH: dict[str, Any] = {"encoding": Encoding.OpenSSH, "form": PublicFormat.OpenSSH}


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("s" * 31, "31 bytes.*at least 32"),
        (b"", "0 bytes"),
        ("ü" * 15, "30 bytes"),
        (PRIVATE_PEM, "private key"),
        (pem("rsa1024"), "1024 bits"),
        ("-----BEGIN PUBLIC KEY-----\nbm90IGEga2V5\n-----END PUBLIC KEY-----", "not a public key"),
        ("-----BEGIN CERTIFICATE-----\nbm90IGEga2V5\n-----END CERTIFICATE-----", "certificate"),
        (DER, "not in PEM"),
        (base64.b64encode(DER), "not in PEM"),
        (base64.encodebytes(DER), "not in PEM"),
        (public_bytes(form=PublicFormat.PKCS1), "not in PEM"),
        (base64.b64encode(public_bytes("ed25519")), "not in PEM"),
        (public_bytes("rsa", **OPENSSH), "not in PEM"),
        (public_bytes("ec256", **OPENSSH), "not in PEM"),
        (json.dumps(jwk()), "not in PEM"),
        (json.dumps({"keys": [jwk()]}), "not in PEM"),
    ],
    ids=_stable,
)
def test_fixed_key__refused(key: str | bytes, words: str) -> None:
    """Too short, private, or public without its PEM lines: never taken for a secret; the message names the remedy."""
    with pytest.raises(ConfigError, match=words) as refused:
        fixed_key(key)
    assert "s" * 31 not in str(refused.value)


def _certificate() -> bytes:
    """A provider's certificate, in DER."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "idp")])
    key = private_key("rsa")
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    made = made.not_valid_before(dt.datetime(2020, 1, 1)).not_valid_after(dt.datetime(2040, 1, 1))
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def _disguised() -> Iterator[tuple[str, str | bytes]]:
    """Public material in the forms in which consoles, forms and files of settings show it."""
    certificate = _certificate()
    yield "certificate, DER", certificate
    yield "certificate, base64", base64.b64encode(certificate).decode()
    yield "certificate, in a list", json.dumps([base64.b64encode(certificate).decode()])
    yield "certificate, x5c", json.dumps({"x5c": [base64.b64encode(certificate).decode()]})
    for kind in ("rsa", "ec256", "ed25519"):
        der, lines = public_bytes(kind), pem(kind).splitlines()
        yield f"{kind}, base64 of the PEM", base64.b64encode(pem(kind).encode()).decode()
        yield f"{kind}, without its first line", "\n".join(lines[1:])
        yield f"{kind}, unpadded", base64.b64encode(der).decode().rstrip("=")
        yield f"{kind}, quoted", f'"{base64.b64encode(der).decode()}"'
        yield f"{kind}, url-safe", base64.urlsafe_b64encode(der).decode()
        yield f"{kind}, spelled line breaks", "\\n".join(lines[1:-1])
        yield f"{kind}, hexadecimal", der.hex()
        yield f"{kind}, hexadecimal with colons", der.hex(":")
        yield f"{kind}, base64 of the base64", base64.b64encode(base64.b64encode(der)).decode()
        yield f"{kind}, base64 of the JWK", base64.b64encode(json.dumps(jwk(kind)).encode()).decode()
        yield f"{kind}, JWK as a text of JSON", json.dumps(json.dumps(jwk(kind)))
        line = public_bytes(kind, **OPENSSH)
        yield f"{kind}, quoted line of OpenSSH", b'"' + line + b'"'
        yield f"{kind}, middle of a line of OpenSSH", line.split()[1]
        yield f"{kind}, base64 of a line of OpenSSH", base64.b64encode(line)


@pytest.mark.parametrize("key", [pytest.param(key, id=form) for form, key in _disguised()])
def test_fixed_key__public_material_is_no_secret(key: str | bytes) -> None:
    """Whoever has the provider's certificate or public key could sign an administrator's token with it."""
    with pytest.raises(ConfigError, match="public key or a certificate"):
        fixed_key(key)


@pytest.mark.parametrize(
    "key",
    [
        "MII" + "x" * 40,
        "MII" + "x" * 61,
        "0" * 50,
        "0" * 64,
        "00" + "f" * 62,
        "A" * 44,
        base64.b64encode(bytes(range(48))).decode(),
        b"\x30" * 40,
        b"\x30" * 48,
        b"\x30\x1e" + b"x" * 30,
    ],
)
def test_fixed_key__odd_secrets_are_secrets(key: str | bytes) -> None:
    """A secret that only begins like something else is still one."""
    assert "HS256" in fixed_key(key).algorithms


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        (SECRET, ("HS512",)),
        (SECRET, ("RS256",)),
        (SECRET, ("none",)),
        (SECRET, ("HS256", "RS256")),
        (pem(), ("HS256",)),
        (pem("ec256"), ("ES384",)),
        (pem("ed25519"), ("RS256",)),
    ],
    ids=_stable,
)
def test_fixed_key__algorithms_only_narrow(key: str, wanted: tuple[str, ...]) -> None:
    """An algorithm that is not the key's is an error, not a way in."""
    with pytest.raises(ConfigError, match=r"RCACHE_ADMIN_JWT_ALGORITHMS.*allows only"):
        fixed_key(key, wanted)


def test_fixed_key__pem_of_one_line() -> None:
    """A PEM whose line breaks are spelled, as an environment file has it, is read."""
    settings = load_settings({}, {"RCACHE_ADMIN_JWT_KEY": pem().replace("\n", "\\n")})
    keyring = keyring_of(settings)
    assert keyring is not None
    assert JwtGuard(keyring).admit(f"Bearer {token(private_key(), 'RS256')}") == "ann"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"RCACHE_ADMIN_JWT_KEY": SECRET, "RCACHE_ADMIN_JWKS_URL": "https://id/keys"}, "both set"),
        ({"RCACHE_ADMIN_JWT_KEY": SECRET, "RCACHE_ADMIN_GUARD": bool}, "RCACHE_ADMIN_GUARD replaces"),
        ({"RCACHE_ADMIN_JWKS_URL": "https://id/keys", "RCACHE_ADMIN_GUARD": bool}, "RCACHE_ADMIN_GUARD replaces"),
        ({"RCACHE_ADMIN_JWKS_URL": "http://id.example/keys"}, "https://"),
        ({"RCACHE_ADMIN_JWKS_URL": "file:///etc/keys"}, "https://"),
        ({"RCACHE_ADMIN_JWKS_URL": "https:///keys"}, "https://"),
        ({"RCACHE_ADMIN_JWKS_URL": "https://[x"}, "RCACHE_ADMIN_JWKS_URL is not a URL"),
        ({"RCACHE_ADMIN_JWKS_URL": "http://localhost.evil.example/"}, "https://"),
        pytest.param(
            {"RCACHE_ADMIN_JWKS_URL": "https://id/keys", "RCACHE_ADMIN_JWT_ALGORITHMS": "HS256"},
            "allows only",
            marks=pytest.mark.jwks,
        ),
    ],
    ids=str,
)
def test_keyring__refused(config: dict[str, Any], words: str) -> None:
    """Two sources, or one that anybody on the way could answer for."""
    with pytest.raises(ConfigError, match=words):
        keyring_of(load_settings(config, {}))


def test_settings__keep_the_key_to_themselves() -> None:
    """Whoever prints the settings does not print the secrets."""
    settings = load_settings({"RCACHE_ADMIN_JWT_KEY": SECRET, "RCACHE_USER_JWT_KEY": "t" * 32}, {})
    assert SECRET not in repr(settings)
    assert "t" * 32 not in repr(settings)


def test_settings__passwords_in_urls_are_not_shown() -> None:
    """Settings are a local variable in many a traceback, and those are sent to others; errors are read by many too."""
    config = {"RCACHE_URL": "redis://app:s3cr3t@db/0", "RCACHE_ADMIN_JWKS_URL": "https://app:s3cr3t@id.example/keys"}
    assert "s3cr3t" not in repr(load_settings(config, {}))
    with pytest.raises(ConfigError, match="must begin with https://") as refused:
        keyring_of(load_settings({"RCACHE_ADMIN_JWKS_URL": "http://app:s3cr3t@id.example/keys"}, {}))
    assert "s3cr3t" not in str(refused.value)


# The keys of a provider


class Provider:
    """An identity provider's JWKS, in this process; `now` is the guard's clock."""

    def __init__(self, *keys: Any) -> None:
        self.keys: Any = list(keys)
        self.asked = 0
        self.fails: Exception | None = None
        self.now = 1000.0
        self.guard = JwtGuard(RemoteKeys(self, clock=lambda: self.now))

    def __call__(self) -> Any:
        self.asked += 1
        if self.fails is not None:
            raise self.fails
        return {"keys": self.keys}

    def admit(self, kind: str = "rsa", number: int = 0, algorithm: str = "RS256", **headers: Any) -> str:
        headers.setdefault("kid", f"{kind}-{number}")
        named = {name: value for name, value in headers.items() if value is not None}
        return self.guard.admit(f"Bearer {token(private_key(kind, number), algorithm, named)}")

    def refuses(self, *args: Any, **headers: Any) -> str:
        with pytest.raises(Unauthenticated) as refused:
            self.admit(*args, **headers)
        return str(refused.value)


@pytest.fixture
def provider() -> Provider:
    """A provider with an RSA and an EC key, and a guard that goes by it."""
    return Provider(jwk("rsa"), jwk("ec256"))


def test_remote_keys__are_fetched_once_and_held(provider: Provider) -> None:
    """Every token after the first goes without asking, until the keys are five minutes old."""
    assert provider.asked == 0
    assert [provider.admit() for _ in range(5)] == ["ann"] * 5
    assert provider.admit("ec256", 0, "ES256") == "ann"
    provider.now += 299
    provider.admit()
    assert provider.asked == 1
    provider.now += 2
    provider.admit()
    assert provider.asked == 2


def test_remote_keys__rotation(provider: Provider) -> None:
    """A new key is found as soon as the provider may be asked again, and an old one ends with the next fetch."""
    provider.admit()
    provider.keys = [jwk("rsa", 1)]
    assert "no key" in provider.refuses("rsa", 1)
    provider.now += 31
    assert provider.admit("rsa", 1) == "ann"
    assert "no key" in provider.refuses("rsa", 0)
    assert provider.asked == 2


def test_remote_keys__unknown_names_do_not_press_the_provider(provider: Provider) -> None:
    """A thousand tokens with invented names ask it once in thirty seconds."""
    for number in range(1000):
        provider.refuses(kid=f"invented-{number}")
    assert provider.asked == 1
    provider.now += 31
    for number in range(50):
        provider.refuses(kid=f"invented-{number}")
    assert provider.asked == 2


@pytest.mark.parametrize(
    "failure",
    [OSError("refused"), TimeoutError("late"), ValueError("not JSON"), jwt.PyJWKClientConnectionError("away")],
    ids=lambda each: type(each).__name__,
)
def test_remote_keys__a_provider_that_is_away(provider: Provider, failure: Exception, caplog) -> None:
    """A failure is remembered too; what is known is used for an hour, and then no more."""
    provider.fails = failure
    for _ in range(10):
        assert "no key" in provider.refuses()
    assert provider.asked == 1
    assert str(failure) in caplog.text
    provider.fails = None
    provider.now += 31
    assert provider.admit() == "ann"
    provider.fails = failure
    for _ in range(11):
        provider.now += 310
        assert provider.admit() == "ann"
    assert provider.asked == 13
    provider.now += 310
    assert "no key" in provider.refuses()
    provider.fails = None
    provider.now += 31
    assert provider.admit() == "ann"


@pytest.mark.filterwarnings("ignore::jwt.InsecureKeyLengthWarning")  # the short key makes its own token here
@pytest.mark.parametrize(
    ("key", "algorithm", "signer"),
    [
        (jwk("rsa", use="enc"), "RS256", "rsa"),
        (jwk("rsa", alg="RS512"), "RS256", "rsa"),
        (jwk("rsa1024"), "RS256", "rsa1024"),
        (jwk("rsa", kid=None), "RS256", "rsa"),
        ({"kty": "oct", "k": base64.urlsafe_b64encode(SECRET.encode()).decode(), "kid": "rsa-0"}, "HS256", SECRET),
        ({"kty": "oct", "k": base64.urlsafe_b64encode(SECRET.encode()).decode(), "kid": "rsa-0"}, "RS256", "rsa"),
        (json.loads(RSAAlgorithm.to_jwk(private_key())) | {"kid": "rsa-0"}, "RS256", "rsa"),
        ({"kty": "RSA", "kid": "rsa-0"}, "RS256", "rsa"),
        ({"kty": "new", "kid": "rsa-0"}, "RS256", "rsa"),
        ("text", "RS256", "rsa"),
        ({"kty": "oct", "kid": "rsa-0"}, "RS256", "rsa"),
        (jwk("rsa", alg=["RS256"]), "RS256", "rsa"),
    ],
    ids=[
        *("enc", "other alg", "short", "no kid", "secret", "secret as RSA", "private", "broken", "kind", "text"),
        *("nothing in it", "list of algs"),
    ],
)
def test_remote_keys__not_used(key: Any, algorithm: str, signer: str) -> None:
    """Keys for another purpose, too short, private, symmetric or broken verify nothing, and the others still do."""
    provider = Provider(key, jwk("ec256"))
    keyring = RemoteKeys(provider, clock=lambda: provider.now)
    key_id = key.get("kid") if isinstance(key, dict) else None
    private = signer if signer == SECRET else private_key(signer)
    signed = token(private, algorithm, {"kid": key_id or "rsa-0"})
    with pytest.raises(Unauthenticated):
        JwtGuard(keyring).admit(f"Bearer {signed}")
    assert JwtGuard(keyring).admit(f"Bearer {token(private_key('ec256'), 'ES256', {'kid': 'ec256-0'})}") == "ann"


@pytest.mark.parametrize("answer", [[], {"keys": {}}, {}, None, "keys", {"keys": []}], ids=repr)
def test_remote_keys__not_a_jwks(answer: Any) -> None:
    """An answer of another shape is a failure, or has no keys; nobody is let in by it."""
    keyring = RemoteKeys(lambda: answer)
    for _ in range(2):
        with pytest.raises(AuthError, match="no key"):
            keyring.key_for({"alg": "RS256", "kid": "rsa-0"})


@pytest.mark.parametrize(
    "header",
    [{}, {"kid": None}, {"kid": ""}, {"kid": 7}, {"kid": "rsa-0", "alg": "none"}, {"kid": "rsa-0", "alg": "HS256"}],
    ids=repr,
)
def test_remote_keys__what_cannot_be_asks_nobody(provider: Provider, header: dict[str, Any]) -> None:
    """A token without a key's name, or with an algorithm that no public key has, is refused without a fetch."""
    keyring = RemoteKeys(provider)
    with pytest.raises(AuthError):
        keyring.key_for({"alg": "RS256", **header})
    assert provider.asked == 0


def test_remote_keys__one_fetch_for_many_threads() -> None:
    """Tokens that come at the same time share one fetch, and each gets its key."""
    provider = Provider(jwk("rsa"))
    gate = threading.Event()

    def fetch() -> Any:
        assert gate.wait(30)
        return provider()

    keyring = RemoteKeys(fetch)
    found: list[object] = []

    def ask() -> None:
        found.append(keyring.key_for({"alg": "RS256", "kid": "rsa-0"}))

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(30)
    assert (len(found), provider.asked) == (8, 1)


def test_remote_keys__a_slow_provider_holds_up_one_thread() -> None:
    """While old keys are renewed, the others that know theirs do not wait."""
    provider = Provider(jwk("rsa"))
    gate, entered = threading.Event(), threading.Event()
    gate.set()

    def fetch() -> Any:
        entered.set()
        assert gate.wait(30)
        return provider()

    keyring = RemoteKeys(fetch, clock=lambda: provider.now)
    header = {"alg": "RS256", "kid": "rsa-0"}
    keyring.key_for(header)
    provider.now += 301
    gate.clear()
    entered.clear()
    slow = threading.Thread(target=keyring.key_for, args=(header,), daemon=True)
    slow.start()
    assert entered.wait(30)
    keyring.key_for(header)  # would hang here, and the fetch is still under way
    assert slow.is_alive()
    gate.set()
    slow.join(30)
    assert not slow.is_alive()


class _Handler(BaseHTTPRequestHandler):
    """Answers `/keys` with a JWKS and `/moved` with a redirect to it."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        body = json.dumps({"keys": [jwk("rsa")]}).encode() if self.path == "/keys" else b""
        self.send_response({"/keys": 200, "/moved": 302}.get(self.path, 500))
        self.send_header("Location", "/keys")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def web() -> Iterator[tuple[str, list[str]]]:
    """A real web server: its URL, and the paths that were asked for."""
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"asked": asked}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join(30)


@pytest.mark.jwks
def test_remote_keys__over_http(web: tuple[str, list[str]]) -> None:
    """The keys come from a real server, once."""
    url, asked = web
    guard = JwtGuard(remote_keys(f"{url}/keys", timeout=30))
    signed = token(private_key(), "RS256", {"kid": "rsa-0"})
    assert [guard.admit(f"Bearer {signed}") for _ in range(3)] == ["ann"] * 3
    assert asked == ["/keys"]


def test_remote_keys__an_old_client_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PyJWT whose client follows redirects is not used to fetch keys; the message names the extra."""
    monkeypatch.setattr(jwt, "__version__", "2.13.0")
    with pytest.raises(ConfigError, match=r"flask-rcache\[jwks\]"):
        remote_keys("https://id.example/keys")


@pytest.mark.jwks
@pytest.mark.parametrize("path", ["/moved", "/broken"])
def test_remote_keys__no_detours(web: tuple[str, list[str]], path: str, caplog) -> None:
    """A redirect is not followed, nor is an error's body read: the keys come from the URL that is configured."""
    url, asked = web
    guard = JwtGuard(remote_keys(f"{url}{path}", timeout=30))
    with caplog.at_level(logging.WARNING), pytest.raises(Unauthenticated, match="no key"):
        guard.admit(f"Bearer {token(private_key(), 'RS256', {'kid': 'rsa-0'})}")
    assert asked == [path]
    assert "RCACHE_ADMIN_JWKS_URL" in caplog.text

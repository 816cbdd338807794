"""The keys of a provider over TLS: from a server whose certificate is trusted, and from no other."""

from __future__ import annotations

import datetime
import ipaddress
import json
import logging
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from flask_rcache.admin.guard import JwtGuard, Unauthenticated
from flask_rcache.admin.keyring import remote_keys
from tests.admin.tokens import jwk, private_key, token

pytestmark = pytest.mark.jwks


class _Keys(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"keys": [jwk("rsa")]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not trust the certificate hangs up: that is the point."""


def _certificate(folder: Path, name: str) -> Path:
    """A certificate that vouches for itself, with its key, in one PEM file."""
    key = private_key("ec256")
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "provider")])
    host: x509.GeneralName = x509.DNSName(name)
    if name[0].isdigit():
        host = x509.IPAddress(ipaddress.ip_address(name))
    today = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([host]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(certificate.public_bytes(Encoding.PEM) + secret)
    return path


@pytest.fixture(params=["127.0.0.1", "another.example"])
def provider(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str, Path]]:
    """A web server with TLS: its URL, the name its certificate is for, and the certificate."""
    certificate = _certificate(tmp_path, request.param)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = _Server(("127.0.0.1", 0), _Keys)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}/keys", request.param, certificate
    server.shutdown()
    server.server_close()
    thread.join(30)


@pytest.mark.parametrize("trusted", [True, False], ids=["trusted", "unknown"])
def test_remote_keys__over_tls(provider, trusted: bool, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    """Keys are taken from a server only when its certificate is trusted and made out to the URL's host."""
    url, name, certificate = provider
    if trusted:  # what an operator of a private authority sets
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    guard = JwtGuard(remote_keys(url, timeout=30))
    bearer = f"Bearer {token(private_key(), 'RS256', {'kid': 'rsa-0'})}"
    if trusted and name == "127.0.0.1":
        assert guard.admit(bearer) == "ann"
        return
    with caplog.at_level(logging.WARNING), pytest.raises(Unauthenticated, match="no key"):
        guard.admit(bearer)
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text

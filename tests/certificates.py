"""A certificate for servers on the loopback interface, as tests with TLS need it."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path
from typing import Any, NamedTuple, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Certificate(NamedTuple):
    """A self-signed one, and its key."""

    certificate: Path
    key: Path

    @classmethod
    def made(cls, directory: Path) -> Self:
        """Make one for `localhost` and 127.0.0.1, valid for a day."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        now = dt.datetime.now(dt.UTC)
        alternatives = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        paths = directory / "cert.pem", directory / "key.pem"
        paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return cls(*paths)

    @property
    def settings(self) -> dict[str, str]:
        """Of a server or a sentinel that uses it, beside its ports."""
        return {
            "tls_cert_file": str(self.certificate),
            "tls_key_file": str(self.key),
            "tls_ca_cert_file": str(self.certificate),
            "tls_auth_clients": "no",
            "tls_replication": "yes",
        }

    @property
    def client_options(self) -> dict[str, Any]:
        """Of redis-py."""
        return {"ssl": True, "ssl_ca_certs": str(self.certificate)}

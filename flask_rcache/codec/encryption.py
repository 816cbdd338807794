"""Bytes that only the holders of a key can read or make: XAES-256-GCM under the keys of ``RCACHE_ENCRYPTION_KEYS``.

Owns the cipher and the choice of the key. What is encrypted, and what it is bound to, is the callers' business.

AES-GCM with random nonces of 96 bits is good for 2^32 messages under one key, which a busy cache writes in days. So
each sealing has a random of 184 bits and a number for each of its parts, together a nonce of 192 bits: its first half
and the app's key make the AES-256 key of this sealing, by CMAC; its second half is the nonce of AES-GCM under that key.
That is good for 2^80 messages under one key, and keeps no state that a fork, a restart or another process could repeat.
Source: https://c2sp.org/XAES-256-GCM; NIST SP 800-38D, 8.3 (the limit), SP 800-108r1 (the derivation).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import SealError

__all__ = ["Encryption"]

_ID_SIZE: Final = 8
_RANDOM_SIZE: Final = 23
_DERIVED: Final = 12
_COUNTERS: Final = (b"\x00\x01X\x00", b"\x00\x02X\x00")
_UNKNOWN: Final = "sealed with a key that is not among RCACHE_ENCRYPTION_KEYS"


class _Key:
    """One of the app's keys; it never shows itself.

    Attributes:
        id: names it in what it has sealed. Nothing about the key follows from it.
    """

    __slots__ = ("_blocks", "_key", "_mask", "id")

    def __init__(self, key: bytes) -> None:
        self.id: Final = hashlib.sha256(b"flask_rcache key id\0" + key).digest()[:_ID_SIZE]
        self._key: Final = algorithms.AES(key)
        # Encrypting blocks leaves no state behind; one that is out of the list while in use is used by nobody else.
        self._blocks: Final[list[Any]] = []
        first = int.from_bytes(self._encrypted(bytes(16)))
        doubled = (first << 1) & (2**128 - 1) ^ (0x87 if first >> 127 else 0)
        self._mask: Final = doubled | doubled << 128

    def cipher(self, derive_from: bytes) -> AESGCM:
        """AES-GCM with the key that 12 bytes and this key make."""
        blocks = b"".join([counter + derive_from for counter in _COUNTERS])
        masked = int.from_bytes(blocks) ^ self._mask
        return AESGCM(self._encrypted(masked.to_bytes(32)))

    def _encrypted(self, blocks: bytes) -> bytes:
        try:
            encryptor = self._blocks.pop()
        except IndexError:
            encryptor = Cipher(self._key, modes.ECB()).encryptor()  # noqa: S305  # the primitive that CMAC is made of
        done: bytes = encryptor.update(blocks)
        self._blocks.append(encryptor)
        return done


class Encryption:
    """Seals and opens bytes; any thread or greenlet may use it, before and after a fork.

    Args:
        keys: of 32 bytes each. The first seals, all open.

    Attributes:
        header_size: bytes of the header, which has the id of the key and the random.
    """

    __slots__ = ("_first", "_keys", "header_size")

    def __init__(self, keys: Sequence[bytes]) -> None:
        self.header_size: Final = _ID_SIZE + _RANDOM_SIZE
        made = [_Key(key) for key in keys]
        self._first: Final = made[0]
        self._keys: Final = {key.id: key for key in made}

    def seal(self, about: bytes, *parts: bytes) -> list[bytes]:
        """Encrypt and authenticate.

        Args:
            about: what the parts belong to; they open for nothing else.
            parts: at most 256.

        Returns:
            The header, then the sealed parts, each 16 bytes longer than it was. A part opens with this header and at
            its place only.
        """
        random = os.urandom(_RANDOM_SIZE)
        cipher, rest = self._first.cipher(random[:_DERIVED]), random[_DERIVED:]
        sealed = [cipher.encrypt(rest + bytes((number,)), part, about) for number, part in enumerate(parts)]
        return [self._first.id + random, *sealed]

    def open(self, about: bytes, header: bytes, *parts: bytes) -> list[bytes]:
        """What was sealed.

        Args:
            about: as it was sealed for.
            header: of the sealing.
            parts: its first ones, in their order.

        Raises:
            SealError: they were not sealed so with one of the keys.
        """
        key = self._keys.get(header[:_ID_SIZE])
        if key is None or len(header) != self.header_size:
            raise SealError(_UNKNOWN)
        cipher, rest = key.cipher(header[_ID_SIZE : _ID_SIZE + _DERIVED]), header[_ID_SIZE + _DERIVED :]
        try:
            return [cipher.decrypt(rest + bytes((number,)), part, about) for number, part in enumerate(parts)]
        except (InvalidTag, ValueError):  # the latter: too short to have a tag
            raise SealError("changed, or moved here from elsewhere, since it was sealed") from None

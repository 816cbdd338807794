"""Sealing: what the construction is, what opens, and what does not."""

from __future__ import annotations

import os
import random
import struct
import threading

import pytest
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.cmac import CMAC

from flask_rcache.codec.encryption import Encryption
from flask_rcache.codec.envelope import IDENTITY, SEALED_MAGIC, Codec
from flask_rcache.errors import DecodeError, SealError
from flask_rcache.model.entry import Draft, Entry
from tests.codec.test_envelope import DRAFTS

OLD, NEW = bytes(range(32)), bytes(range(100, 132))
KEY = "cache:product:42"
HEADER = 31


def sealed_codec(*keys: bytes, compress_from: int = 1024) -> Codec:
    return Codec(compress_from=compress_from, encryption=Encryption(keys or (OLD,)))


def xaes_256_gcm(key: bytes, nonce: bytes) -> AESGCM:
    """The cipher as its specification says, by CMAC in counter mode (https://c2sp.org/XAES-256-GCM)."""
    derived = b""
    for counter in (1, 2):
        mac = CMAC(algorithms.AES(key))
        mac.update(struct.pack(">H", counter) + b"X\0" + nonce[:12])
        derived += mac.finalize()
    return AESGCM(derived)


@pytest.mark.parametrize(
    ("key", "about", "published"),
    [
        (b"\1" * 32, b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
        (b"\3" * 32, b"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"),
    ],
)
def test_reference__published_vectors(key: bytes, about: bytes, published: str) -> None:
    """The few lines that the next test compares with are right."""
    nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX"
    assert xaes_256_gcm(key, nonce).encrypt(nonce[12:], b"XAES-256-GCM", about).hex() == published


def test_seal__is_xaes_256_gcm() -> None:
    """Each part is a message of XAES-256-GCM; its nonce is the random of the header and the number of the part."""
    for key in (OLD, NEW, *map(random.Random(1).randbytes, [32] * 50)):  # so that both forms of the subkey occur
        header, *parts = Encryption([key]).seal(b"about", b"first", b"second")
        for number, (part, plain) in enumerate(zip(parts, (b"first", b"second"), strict=True)):
            nonce = header[8:] + bytes([number])
            assert len(nonce) == 24
            assert xaes_256_gcm(key, nonce).decrypt(nonce[12:], part, b"about") == plain


def test_seal__has_a_fresh_nonce_each_time() -> None:
    """The same is never sealed alike, in threads and in a forked process neither."""
    encryption, headers = Encryption([OLD]), set[bytes]()

    def work() -> None:
        headers.update(encryption.seal(b"", b"")[0] for _ in range(500))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(headers) == 2000
    reader, writer = os.pipe()
    child = os.fork()
    if not child:  # pragma: no cover
        os.write(writer, b"".join(encryption.seal(b"", b"")[0] for _ in range(10)))
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reader, 10 * HEADER)
    os.close(reader)
    os.close(writer)
    ours = {encryption.seal(b"", b"")[0] for _ in range(10)}
    assert len(ours | {theirs[at : at + HEADER] for at in range(0, 10 * HEADER, HEADER)}) == 20


def test_open__every_key_reads_and_the_first_writes() -> None:
    """A key is added, comes first, and the old one is dropped: what is read at each step."""
    before, added, turned, after = (Encryption(keys) for keys in ([OLD], [OLD, NEW], [NEW, OLD], [NEW]))
    by_old, by_new = added.seal(b"", b"v"), turned.seal(b"", b"v")
    assert [each.open(b"", *by_old) for each in (before, added, turned)] == [[b"v"]] * 3
    assert [each.open(b"", *by_new) for each in (added, turned, after)] == [[b"v"]] * 3
    for each, sealed in ((before, by_new), (after, by_old)):
        with pytest.raises(SealError, match="RCACHE_ENCRYPTION_KEYS"):
            each.open(b"", *sealed)


def test_encryption__shows_no_key() -> None:
    """Neither itself nor what it has sealed has a piece of the key in it."""
    encryption = Encryption([OLD])
    assert OLD[:4] not in repr(encryption).encode() + b"".join(encryption.seal(b"", b"v"))


# Entries


@pytest.mark.parametrize("draft", DRAFTS.values(), ids=DRAFTS.keys())
@pytest.mark.parametrize("compress_from", [0, 10**9])
def test_entry__comes_back(draft: Draft, compress_from: int) -> None:
    """Sealed entries come back as plain ones do, compressed or not, whole or without their bodies."""
    codec = sealed_codec(compress_from=compress_from)
    raw = codec.seal(draft, KEY, epoch=4, as_of=5, created=6)
    entry = codec.unseal(raw, KEY)
    assert entry == Entry.of(draft, epoch=4, as_of=5, created=6)
    head, needed = codec.unseal_head(raw, KEY)
    assert (head.tags, head.ttl, head.origin, needed) == (entry.tags, entry.ttl, entry.origin, 0)
    if len(raw) > 3000:
        needed = codec.unseal_head(raw[:200], KEY)[1]
        assert needed > 200 or draft.tags == ()
        assert codec.unseal_head(raw[: max(needed, 200)], KEY)[0].tags == entry.tags


def test_entry__nothing_of_it_can_be_read() -> None:
    """Of body, headers, tags, path and view nothing shows; equal entries differ."""
    codec = sealed_codec(compress_from=10**9)
    draft = Draft(b"secret body", ttl=60.0, tags=("secret-tag",), origin="secret.module:view", place="secret /path")
    first, second = (codec.seal(draft, KEY, as_of=5, created=6) for _ in range(2))
    assert b"secret" not in first
    assert first[: IDENTITY.stop] == second[: IDENTITY.stop]
    assert not {first[at : at + 4] for at in range(36, len(first))} & {second[at : at + 4] for at in range(63, 200)}


def test_entry__each_byte_counts() -> None:
    """A changed byte anywhere but in the times makes it no entry, with its body and without."""
    codec = sealed_codec(compress_from=10**9)
    raw = codec.seal(DRAFTS["response"], KEY, epoch=4, as_of=5, created=6)
    body_at = 63 + struct.unpack(">I", raw[59:63])[0]
    for at in (*range(4), *range(28, len(raw))):
        changed = raw[:at] + bytes([raw[at] ^ 1 << at % 8]) + raw[at + 1 :]
        with pytest.raises(SealError):
            codec.unseal(changed, KEY)
        if at < body_at and not 59 <= at < 63:  # the size, which may ask for more than there is
            with pytest.raises(SealError):
                codec.unseal_head(changed, KEY)
    for size in range(len(raw)):
        with pytest.raises(SealError):
            codec.unseal(raw[:size], KEY)
    with pytest.raises(SealError):
        codec.unseal(raw + b"\0", KEY)


def test_entry__its_times_can_only_be_lowered() -> None:
    """Who changes the times that the store writes makes an entry older, never younger than it is."""
    codec = sealed_codec()
    loaded = codec.seal(DRAFTS["value"], KEY, epoch=4, as_of=50, created=70)  # the fill is no later than 70
    known_at_the_write = codec.seal(DRAFTS["value"], KEY, created=70)
    for raw, times, expected in (
        (loaded, (4, 50, 60), (4, 50, 60)),
        (loaded, (9, 2**50, 2**50), (4, 50, 70)),
        (loaded, (9, 1, 2), (4, 1, 2)),
        (known_at_the_write, (4, 60, 61), (4, 60, 61)),
        (known_at_the_write, (4, 2**50, 2**50), (4, 70, 70)),
    ):
        entry = codec.unseal(raw[:4] + struct.pack(">QQQ", *times) + raw[28:], KEY)
        assert (entry.epoch, entry.as_of, entry.created) == expected
        assert set(dict(entry.tags).values()) == {expected[1]}


def test_entry__belongs_to_its_key() -> None:
    """Under another key it is no entry; nor are the pieces of two entries of one key."""
    codec = sealed_codec()
    first, second = (codec.seal(DRAFTS[name], KEY, as_of=5, created=6) for name in ("value", "response"))
    for other in ("cache:product:43", "cache2:product:42", "", KEY + "\0"):
        with pytest.raises(SealError, match="moved"):
            codec.unseal(first, other)
    body_at = [63 + struct.unpack(">I", raw[59:63])[0] for raw in (first, second)]
    with pytest.raises(SealError):
        codec.unseal(first[: body_at[0]] + second[body_at[1] :], KEY)


def test_entry__plain_and_sealed_ones_are_not_mixed() -> None:
    """Who has keys takes no plain entry, and who has none no sealed one."""
    plain, sealed = Codec().seal(DRAFTS["value"]), sealed_codec().seal(DRAFTS["value"], KEY, created=1)
    assert sealed.startswith(SEALED_MAGIC)
    for read in (sealed_codec().unseal, sealed_codec().unseal_head):
        with pytest.raises(SealError, match="stored without"):
            read(plain, KEY)
    with pytest.raises(DecodeError, match="version") as caught:
        Codec().unseal(sealed, KEY)
    assert not isinstance(caught.value, SealError)


def test_entry__random_bytes() -> None:
    """Whatever bytes lie there are a miss, and no other error; a size of 4 GB takes no memory."""
    codec, draw = sealed_codec(), random.Random(7)
    raw = codec.seal(DRAFTS["value"], KEY, created=1)
    for size in (0, 1, 4, 28, 62, 63, 64, 500):
        for begin in (b"", raw[:4], raw[:36], raw[:59] + b"\xff" * 4):
            with pytest.raises(SealError):
                codec.unseal((begin + draw.randbytes(500))[:size], KEY)


# Other data


def test_encrypt__is_bound_to_what_it_is_about() -> None:
    """Data opens for the same names only, however they are divided; without keys it stays as it is."""
    codec = sealed_codec()
    data = codec.encrypt(b"value", "queue", "a")
    assert codec.decrypt(data, "queue", "a") == b"value"
    for about in (("queue", "b"), ("queuea",), ("queue", "a", ""), ("queu", "ea")):
        with pytest.raises(SealError):
            codec.decrypt(data, *about)
    for garbage in (b"", b"value", data[:-1], data[:40]):
        with pytest.raises(SealError):
            codec.decrypt(garbage, "queue", "a")
    assert Codec().decrypt(Codec().encrypt(b"value", "a"), "b") == b"value"

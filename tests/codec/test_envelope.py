"""The envelope: whole entries back or ``DecodeError``, whatever the bytes."""

from __future__ import annotations

import contextlib
import math
import os
import random
import struct
import threading
import tracemalloc
from typing import Any

import ormsgpack
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from flask_rcache.codec.envelope import IDENTITY, MAGIC, TIMES, Codec
from flask_rcache.errors import DecodeError, EncodeError
from flask_rcache.model.entry import Draft, Entry, StoredResponse, VariantMarker
from flask_rcache.model.moment import Moment

PAGE = StoredResponse(
    "200 OK",
    (("Content-Type", "text/html; charset=utf-8"), ("Set-Thing", "a"), ("Set-Thing", "b"), ("X-Name", "é\tx")),
    b"<p>a page like any other</p>" * 100,
)
VALUE = Draft(b"\x81\xa4rows\x01" * 9, ttl=300.0, tags=("c:product", "*"), origin="shop.views:index")
DRAFTS = {
    "value": VALUE,
    "response": Draft(PAGE, ttl=1.5, stale_while_revalidate=2.5, stale_if_error=3.5, tags=("a",), cost=0.25),
    "inherited": Draft(b"\xc0", ttl=1.0, tags=("a",), inherited=(("b", 3), ("c", 4))),
    "bare": Draft(b"", ttl=0.0),
    "response with fields": Draft(PAGE, ttl=1.5, fields=("!session:cart", "!x-token", "accept")),
    "empty response": Draft(StoredResponse("204 NO CONTENT", (), b""), ttl=1.0),
    "no reason phrase": Draft(StoredResponse("599", (("Age", "0"), ("aGe", "12")), b""), ttl=1.0),
    "incompressible": Draft(random.Random(1).randbytes(5000), ttl=1.0),
    "marker": Draft(
        VariantMarker(("!x-token", "accept", "cookie:lang"), ("00ff", "a1b2"), (5, 9)), ttl=9.0, tags=("c:page",)
    ),
    "marker without variants": Draft(VariantMarker(("accept",)), ttl=9.0),
    "many tags": Draft(b"x", ttl=1.0, tags=tuple(f"t:{number}" for number in range(2000))),
}
COMPRESSED, RESPONSE, MARKER = 1, 2, 4


def envelope(
    body: bytes = b"",
    *,
    flags: int = 0,
    size: int | None = None,
    magic: bytes = MAGIC,
    times: tuple[int, int, int] = (1, 2, 3),
    tags: Any = (["a"], [], []),
    **meta: Any,
) -> bytes:
    """An envelope by the format's letter: what a writer that is not the codec would store."""
    fields = {"ttl": 1.0, "swr": 0.0, "sie": 0.0, "cost": 0.0, "size": len(body) if size is None else size}
    fields |= {"origin": "", "first": None, "second": None, "third": []} | meta
    packed_tags, packed = ormsgpack.packb(tags), ormsgpack.packb(list(fields.values()))
    head = struct.pack(">4sQQQBII", magic, *times, flags, len(packed_tags), len(packed))
    return head + packed_tags + packed + body


def response(status: Any = "200 OK", headers: Any = (), **more: Any) -> bytes:
    return envelope(flags=RESPONSE, **{"first": status, "second": list(headers), "third": [], **more})


def marker(fields: Any, ids: Any = (), **more: Any) -> bytes:
    return envelope(flags=MARKER, **{"first": fields, "second": list(ids), "third": [7] * len(ids), **more})


@pytest.mark.parametrize("draft", DRAFTS.values(), ids=DRAFTS.keys())
@pytest.mark.parametrize("compress_from", [0, 1024, 10**9])
def test_seal__unseal(draft: Draft, compress_from: int) -> None:
    """An entry comes back; its own tags take the load's ``as_of``, those inherited keep theirs."""
    codec = Codec(compress_from=compress_from)
    for times in ({"epoch": 0, "as_of": 5, "created": 5}, {"epoch": 2**53 - 1, "as_of": 5, "created": 2**51}):
        raw = codec.seal(draft, "", **times)
        entry = codec.unseal(raw)
        assert entry == Entry.of(draft, **times)
        assert codec.unseal(raw, tags=entry.tags) == entry
        head, needed = codec.unseal_head(raw)
        assert needed == 0
        assert (head.tags, head.ttl, head.origin) == (entry.tags, entry.ttl, entry.origin)
        assert type(head.content) is type(entry.content)


def test_seal__tags_with_two_readings() -> None:
    """A tag that is both the load's own and inherited keeps the earlier reading, once."""
    draft = Draft(b"", ttl=1.0, tags=("a", "b", "c"), inherited=(("b", 3), ("c", 9), ("d", 9)))
    entry = Codec().unseal(Codec().seal(draft, as_of=7, created=9))
    assert dict(entry.tags) == {"a": 7, "b": 3, "c": 7, "d": 9} == dict(draft.tags_as_of(7))
    assert len(entry.tags) == 4
    raw = bytearray(Codec().seal(draft))  # when only the store will know the as_of
    raw[TIMES] = struct.pack(">QQQ", 1, 20, 20)
    assert dict(Codec().unseal(bytes(raw)).tags) == {"a": 20, "b": 3, "c": 9, "d": 9}


def test_seal__times_are_overwritten_in_place() -> None:
    """A store writes epoch, as_of and created over the envelope, and own tags follow."""
    codec = Codec()
    for draft in DRAFTS.values():
        raw = bytearray(codec.seal(draft, as_of=22))
        raw[TIMES] = struct.pack(">QQQ", 11, 22, 33)
        assert codec.unseal(bytes(raw)) == Entry.of(draft, epoch=11, as_of=22, created=33)
        assert bytes(raw[IDENTITY]) == struct.pack(">QQQ", 11, 22, 33)


def test_unseal__the_format_by_its_letter() -> None:
    """The layout is a contract with the scripts in the store, and with other versions."""
    entry = Codec().unseal(envelope(b"body", tags=[["a"], ["b"], [3]], origin="m:f"))
    assert entry == Entry(b"body", 1, 2, 3, 1.0, tags=(("a", 2), ("b", 3)), origin="m:f")
    assert Codec().unseal(response(headers=["A", "b"])).content == StoredResponse("200 OK", (("A", "b"),), b"")
    assert Codec().unseal(marker(["x"], ["0a"])).content == VariantMarker(("x",), ("0a",), (7,))


def test_unseal_head__of_the_beginning_only() -> None:
    """What a head says is what the whole entry says, but for the body; a part of it says how much is missing."""
    codec = Codec()
    draft = Draft(PAGE, 60.0, 5.0, 7.0, ("t:a",), (("t:b", 3),), 0.5)
    raw = codec.seal(draft, epoch=5, as_of=6, created=7)
    whole = codec.unseal(raw)
    head, needed = codec.unseal_head(raw[:400])
    assert needed == 0
    for name in ("epoch", "as_of", "created", "ttl", "stale_while_revalidate", "stale_if_error", "tags", "cost"):
        assert getattr(head, name) == getattr(whole, name)
    _, needed = codec.unseal_head(raw[:50])
    assert 50 < needed < len(raw)
    assert codec.unseal_head(raw[:needed])[1] == 0


def test_seal__compresses_what_is_worth_it() -> None:
    """From the threshold on, and only where it makes the body smaller."""
    text, noise = b"a page " * 1000, random.Random(2).randbytes(7000)
    for body, smaller in ((text, True), (noise, False), (b"a" * 1023, False), (b"a" * 1024, True)):
        raw = Codec().seal(Draft(body, ttl=1.0))
        assert (len(raw) < len(body)) == smaller
        assert Codec().unseal(raw).content == body
    # A reader's threshold says nothing about what others have written.
    assert Codec(compress_from=10**9).unseal(Codec(compress_from=0).seal(Draft(text, ttl=1.0))).content == text


@pytest.mark.parametrize(
    "draft",
    [
        VALUE._replace(ttl=math.nan),
        VALUE._replace(ttl=-1.0),
        VALUE._replace(ttl=10**400),
        VALUE._replace(stale_if_error=math.inf),
        VALUE._replace(cost=-0.1),
        VALUE._replace(origin=7),  # type: ignore[arg-type]
        VALUE._replace(tags=("\ud800",)),
        VALUE._replace(tags=(1,)),  # type: ignore[arg-type]
        VALUE._replace(inherited=(("a", -1),)),
        VALUE._replace(inherited=(("a", 2**64),)),
        Draft(StoredResponse("200 OK", (("X", "\ud800"),), b""), ttl=1.0),
        Draft(StoredResponse("200 OK", (("Age", "soon"),), b""), ttl=1.0),
        Draft(StoredResponse("999 ODD", (), b""), ttl=1.0),
        Draft(VariantMarker(("*",)), ttl=1.0),
    ],
    ids=lambda draft: repr(draft)[-90:],
)
def test_seal__refuses_nonsense(draft: Draft) -> None:
    """Nothing is written that could not be read again."""
    with pytest.raises(EncodeError):
        Codec().seal(draft)


def test_codec__max_size() -> None:
    """The cap holds for the body before compression, when writing and when reading, and names itself."""
    codec, body = Codec(max_size=10_000), b"x" * 10_000
    assert codec.unseal(codec.seal(Draft(body, ttl=1.0))).content == body
    with pytest.raises(EncodeError, match="10000"):
        codec.seal(Draft(body + b"x", ttl=1.0))
    for compress_from in (0, 10**9):
        with pytest.raises(DecodeError):
            codec.unseal(Codec(compress_from=compress_from).seal(Draft(body + b"x", ttl=1.0)))


def test_seal__times_out_of_range() -> None:
    """A time that is not 64 bits unsigned is refused."""
    for times in ({"epoch": -1}, {"as_of": 2**64}):
        with pytest.raises(EncodeError):
            Codec().seal(VALUE, "", **times)


FRAME = zstandard.compress(b"a" * 100)
UNSIZED = zstandard.ZstdCompressor(write_content_size=False).compress(b"a" * 100)
NOT_ENTRIES = {
    "empty": b"",
    "head only": envelope()[:37],
    "other magic": envelope(magic=b"XYZ\x02"),
    "version before": envelope(magic=b"RCE\x02"),
    "next version": envelope(magic=b"RCE\x04"),
    "two kinds": envelope(flags=RESPONSE | MARKER, first="200 OK", second=[]),
    "unknown flag": envelope(flags=0b1000),
    "body cut": envelope(b"body")[:-1],
    "body longer": envelope(b"body") + b"x",
    "response as value": envelope(first="200 OK", second=[]),
    "value as response": envelope(flags=RESPONSE),
    "value as marker": envelope(flags=MARKER),
    "response as marker": envelope(flags=MARKER, first="200 OK", second=[]),
    "marker as response": envelope(flags=RESPONSE, first=["a"], second=[]),
    "status only": envelope(flags=RESPONSE, first="200 OK"),
    "status a number": response(200),
    "no fields": response(third=None),
    "fields of a text": response(third="accept"),
    "a field with a blank": response(third=["a b"]),
    "all fields": response(third=["*"]),
    "a value without fields": envelope(third=None),
    "status 000": response("000 NOTHING"),
    "status 600": response("600 MORE"),
    "status of words": response("OK"),
    "status of four digits": response("2000 OK"),
    "reason with a line break": response("200 OK\r\nX: y"),
    "reason with a newline at its end": response("200 OK\n"),
    "odd headers": response(headers=["a"]),
    "header a number": response(headers=["a", 1]),
    "headers a str": envelope(flags=RESPONSE, first="200 OK", second="ab"),
    "header with a line break": response(headers=["A", "b\r\nSet-Cookie: a=b"]),
    "header with a newline": response(headers=["A", "b\n"]),
    "header with NUL": response(headers=["A", "b\0"]),
    "header name with a blank": response(headers=["A b", "c"]),
    "header name with a colon": response(headers=["A:", "b"]),
    "header name with a newline": response(headers=["A\nB", "c"]),
    "header without a name": response(headers=["", "b"]),
    "second header without a name": response(headers=["A", "b", "", "c"]),
    "Age of words": response(headers=["A", "b", "AGE", "x"]),
    "Age below zero": response(headers=["Age", "-1"]),
    "Age empty": response(headers=["Age", ""]),
    "Age of other digits": response(headers=["Age", "\u0661"]),
    "marker without times": marker(["accept"], ["0a"], third=[]),
    "marker with a time of words": marker(["accept"], ["0a"], third=["x"]),
    "marker of everything": marker(["accept", "*"]),
    "marker of nothing": marker([""]),
    "marker with a blank": marker(["accept language"]),
    "marker with a newline": marker(["accept\n"]),
    "marker of a number": marker([1]),
    "marker of a text": marker("accept"),
    "marker with ids of words": marker(["accept"], ["xyz"]),
    "marker with an empty id": marker(["accept"], [""]),
    "marker with ids of two lengths": marker(["accept"], ["0a", "0a0b"]),
    "marker with an id in capitals": marker(["accept"], ["0A"]),
    "marker with a body": envelope(b"body", flags=MARKER, first=["accept"], second=[]),
    "ttl an int": envelope(ttl=1),
    "ttl NaN": envelope(ttl=math.nan),
    "swr infinite": envelope(swr=math.inf),
    "sie negative": envelope(sie=-1.0),
    "cost None": envelope(cost=None),
    "origin a number": envelope(origin=1),
    "tag a number": envelope(tags=[[1], [], []]),
    "tags a str": envelope(tags=["ab", [], []]),
    "tags a dict": envelope(tags=[{"a": 1}, [], []]),
    "tags of two parts": envelope(tags=[["a"], []]),
    "tags none": envelope(tags=None),
    "inherited alone": envelope(tags=[[], ["a"], []]),
    "inherited negative": envelope(tags=[[], ["a"], [-1]]),
    "inherited a bool": envelope(tags=[[], ["a"], [True]]),
    "inherited a number": envelope(tags=[[], [1], [1]]),
    "inherited of after the fill": envelope(tags=[[], ["a"], [4]]),
    "size a bool": envelope(b"a", size=True),
    "size negative": envelope(size=-1),
    "one field more": envelope(more=1),
    "not zstd": envelope(b"body", flags=COMPRESSED),
    "no frame": envelope(flags=COMPRESSED),
    "frame cut": envelope(FRAME[:-1], flags=COMPRESSED, size=100),
    "frame and more": envelope(FRAME + b"x", flags=COMPRESSED, size=100),
    "two frames": envelope(FRAME + FRAME, flags=COMPRESSED, size=100),
    "frames of both sizes": envelope(FRAME + FRAME, flags=COMPRESSED, size=200),
    "frame of unstated size": envelope(UNSIZED, flags=COMPRESSED, size=100),
    "frame of another size": envelope(FRAME, flags=COMPRESSED, size=99),
}


@pytest.mark.parametrize("raw", NOT_ENTRIES.values(), ids=NOT_ENTRIES.keys())
def test_unseal__not_an_entry(raw: bytes) -> None:
    """Foreign, cut, or contradictory bytes are refused, and so is what no response or marker can be."""
    with pytest.raises(DecodeError):
        Codec().unseal(raw)


def test_unseal__bomb_is_refused_before_it_is_allocated() -> None:
    """A few KB that declare 200 MB cost next to no memory, whatever size the entry claims."""
    size = 200 * 1024 * 1024
    stream = zstandard.ZstdCompressor().compressobj(size=size)
    chunk = bytes(1024 * 1024)
    bomb = b"".join([*(stream.compress(chunk) for _ in range(200)), stream.flush()])
    assert len(bomb) < 50_000
    assert zstandard.frame_content_size(bomb) == size
    for claimed in (size, 10, 2**64 - 1):
        raw = envelope(bomb, flags=COMPRESSED, size=claimed)
        tracemalloc.start()
        try:
            with pytest.raises(DecodeError):
                Codec().unseal(raw)
            assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
        finally:
            tracemalloc.stop()


SHORT = {name: draft for name, draft in DRAFTS.items() if name != "many tags"}


@pytest.mark.parametrize("draft", SHORT.values(), ids=SHORT.keys())
def test_unseal__every_truncation(draft: Draft) -> None:
    """No prefix of an entry is an entry."""
    raw = Codec().seal(draft, as_of=5, created=6)
    for length in range(len(raw)):
        with pytest.raises(DecodeError):
            Codec().unseal(raw[:length])


SEALED = [Codec().seal(draft, as_of=5, created=6) for draft in SHORT.values()]


@given(st.sampled_from(SEALED), st.lists(st.tuples(st.integers(0), st.integers(1, 255)), min_size=1, max_size=4))
def test_unseal__flipped_bits(raw: bytes, flips: list[tuple[int, int]]) -> None:
    """Damage gives an entry or DecodeError, and nothing else."""
    damaged = bytearray(raw)
    for position, mask in flips:
        damaged[position % len(raw)] ^= mask
    for read in (Codec().unseal, Codec().unseal_head):
        with contextlib.suppress(DecodeError):
            read(bytes(damaged))


@given(st.binary(max_size=300))
def test_unseal__any_bytes(data: bytes) -> None:
    """Any bytes, also behind the right magic, give an entry or DecodeError."""
    for raw in (data, MAGIC + data, envelope()[:37] + data):
        for read in (Codec().unseal, Codec().unseal_head):
            with contextlib.suppress(DecodeError):
                read(raw)


def test_codec__threads_share_one() -> None:
    """Eight threads through one codec neither crash the process nor mix their bodies."""
    codec, start = Codec(compress_from=0), threading.Barrier(8)
    wrong: list[Draft] = []
    noise = random.Random(3).randbytes(40_000).hex().encode()  # large, so that they do run at the same time

    def work(number: int) -> None:
        drafts = [Draft(noise[turn * 997 :] + bytes([number]), ttl=1.0) for turn in range(50)]
        start.wait()
        wrong.extend(draft for draft in drafts if codec.unseal(codec.seal(draft)).content != draft.content)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_codec__after_fork() -> None:
    """A forked worker uses the codec it inherited."""
    codec = Codec(compress_from=0)
    raw = codec.seal(DRAFTS["response"])
    child = os.fork()
    if not child:
        os._exit(0 if codec.unseal(raw) == Entry.of(DRAFTS["response"], epoch=0, as_of=0, created=0) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert codec.seal(DRAFTS["response"]) == raw


def _on_shard(number: int, inherited: tuple[tuple[str, tuple[int, ...]], ...]) -> Draft:
    moment = Moment.together([Moment(11, 90), Moment(12, 80), Moment(13, 70)])
    assert moment is not None
    return Draft(b"v", 1.0, tags=("own",), inherited=inherited).on_shard(number, moment)


def test_seal__what_an_entry_carries_for_other_shards() -> None:
    """On a cluster the readings of all shards come back, tag by tag; on one server an envelope has nothing of them."""
    codec, draft = Codec(), _on_shard(1, (("a", (50, 60, 0)), ("b", (95, 80, 70)), ("c", (50, 60, 0))))
    entry = codec.unseal(codec.seal(draft, as_of=80, created=99))
    assert dict(entry.tags) == {"own": 80, "a": 60, "b": 80, "c": 60}
    assert entry.parts == draft.parts
    assert codec.unseal_head(codec.seal(draft, as_of=80, created=99))[0].parts == draft.parts
    assert codec.unseal(codec.seal(draft, as_of=80), "", entry.tags, entry.parts).parts == draft.parts
    assert len(codec.seal(Draft(b"v", 1.0, tags=("own",)))) < 100


def test_seal__many_readings_become_their_least() -> None:
    """An entry built from many others does not grow with their readings: their least stands for all."""
    codec = Codec()
    draft = _on_shard(0, tuple((f"t{number}", (50 + number, 60 - number, 70)) for number in range(40)))
    entry = codec.unseal(codec.seal(draft, as_of=90, created=99))
    assert dict(entry.tags)["t39"] == 89
    assert entry.parts is not None
    assert set(entry.parts.clocks.values()) == {(50, 21, 70)}


@pytest.mark.parametrize(
    "parts",
    [
        [[1, 2]],
        [[1, 2], [[3, 4]], []],
        [[1, 2], [[3, 4]], [1]],
        [[1, 2], [[3, 4]], [-1]],
        [[1, 2], [[3, 4]], ["0"]],
        [[1, 2], [[3]], [0]],
        [[1, 2], [[3, -4]], [0]],
        [[1, 2], [[3, 2**53]], [0]],
        [[1, "2"], [[3, 4]], [0]],
        [[], [], [0]],
        [5, [[3, 4]], [0]],
    ],
)
def test_unseal__refuses_odd_readings_of_other_shards(parts: list[Any]) -> None:
    """Bytes that are not what a cluster's entry carries are no entry."""
    assert Codec().unseal(envelope(b"body", tags=[["a"], [], [], [1, 2], [[3, 4]], [0]])).parts is not None
    with pytest.raises(DecodeError):
        Codec().unseal(envelope(b"body", tags=[["a"], [], [], *parts]))

"""Entries as bytes, and back: the envelope that a store keeps under an entry's key.

Big-endian: magic and version, ``epoch``, ``as_of``, ``created``, flags, the lengths of two parts in MessagePack; the
tags, and on a cluster the readings that the entry carries for other shards; the meta, with what else an
:class:`~flask_rcache.model.entry.Entry` has and the body's size; the body, an encoded value or a response's,
compressed where that is worth it. A store overwrites the three times in place, so nothing else depends on them. The
tags are a part of their own so that a reader who knows them (a hit on an entry with thousands) can leave them out.

With keys an entry is sealed: another version, the three times, the header of the sealing, the size of its first part,
and the two parts: what stands before the body in a plain entry, and the body. They are bound to the key of the entry.
The times outside are the store's and not authenticated; inside is what the sender knew of them, and whoever changes
those outside makes the entry older at most.

Bytes come from whoever can write to the store. They are an entry as a whole, one that :meth:`Codec.seal` could have
written, or :class:`~flask_rcache.errors.DecodeError`.
"""

from __future__ import annotations

import re
import struct
from functools import lru_cache, reduce
from itertools import chain
from math import inf
from typing import TYPE_CHECKING, Any, Final

import ormsgpack
import zstandard

from ..errors import DecodeError, EncodeError, SealError
from ..model.entry import Content, Draft, Entry, StoredResponse, VariantMarker
from ..model.moment import Parts, least

if TYPE_CHECKING:
    from .encryption import Encryption

__all__ = ["IDENTITY", "MAGIC", "SEALED_MAGIC", "TIMES", "Codec"]

#: How every entry begins; the last byte is the version of the envelope. Releases of different versions share a server:
#: the entries of one are misses for the other. What scripts look at is the same in all versions: the first three bytes,
#: by which space is freed, and where the three times lie. What else lies in a server has a version of its own, of whose
#: difference a release stays away (``stores/redis/server``).
MAGIC: Final = b"RCE\x03"
#: The same of a sealed entry.
SEALED_MAGIC: Final = b"RCE\x83"
#: Where ``epoch``, ``as_of`` and ``created`` lie, which a store writes at the fill.
TIMES: Final = slice(4, 28)
#: The same: together they identify one fill.
IDENTITY: Final = TIMES

_HEAD: Final = struct.Struct(">4sQQQBII")
_HEAD_SIZE: Final = _HEAD.size
_TIMES_PACKED: Final = struct.Struct(">QQQ")
#: Of a sealed entry: magic, times, the header of the sealing and the size of the sealed part before the body.
_SEALED: Final = struct.Struct(">4s24s31sI")
_COMPRESSED: Final = 0b001
_RESPONSE: Final = 0b010
_MARKER: Final = 0b100
#: Every reading of the clock, and every epoch, is exact as a double.
_HIGHEST_TIME: Final = 2**53

# Sources: RFC 9110, 5.1 (a field name is a token), 5.5 (values), 15 (status codes); RFC 9112, 4 (the reason phrase).
_TOKENS: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:\n[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")
_STATUS: Final = re.compile(r"[1-5][0-9][0-9](?: [\t -~\x80-\xff]*)?")
_AGE: Final = re.compile(r"[0-9]+")
#: What selects a variant: the name of a field, or a kind and a name such as ``cookie:lang``.
_SELECTORS: Final = re.compile(r"[!-+\--~]*")
_VARIANT_IDS: Final = re.compile(r"[0-9a-f]*")


class Codec:
    """Entries to bytes and back; holds settings only, and any thread or greenlet may use it.

    Args:
        compress_from: bodies of at least so many bytes are compressed, and kept so if that is smaller.
        level: zstd's level, 1 to 22.
        max_size: the largest body in bytes, before compression, that is written or read.
        encryption: seals entries; without it they are plain.

    Raises:
        ValueError: zstd has no such level.

    >>> codec = Codec()
    >>> entry = codec.unseal(codec.seal(Draft(b"body", ttl=60.0, tags=("product",)), as_of=7))
    >>> entry.content, entry.ttl, entry.tags
    (b'body', 60.0, (('product', 7),))
    """

    def __init__(
        self,
        *,
        compress_from: int = 1024,
        level: int = 3,
        max_size: int = 64 * 1024 * 1024,
        encryption: Encryption | None = None,
    ) -> None:
        self._encryption = encryption
        #: Whether what it writes is sealed.
        self.seals: Final = encryption is not None
        self._compress_from = compress_from
        self._level = level
        self._max_size = max_size
        # A context used by two threads at once crashes the process. One that is out of its list while in use
        # is never shared, by threads or greenlets or after a fork; and idle threads keep none.
        self._compressors = [zstandard.ZstdCompressor(level=level)]
        self._decompressors = [zstandard.ZstdDecompressor()]

    def seal(self, draft: Draft, key: str = "", *, epoch: int = 0, as_of: int | None = None, created: int = 0) -> bytes:
        """Write a draft as an envelope.

        Args:
            draft: what a load produced.
            key: the stored key that it is for. With encryption the entry opens under no other.
            epoch: the stamp set's name, 0 when only the store will know; this and the next two a store may overwrite
                (:data:`TIMES`).
            as_of: the reading from which it is known to reflect the source (µs); ``None``: only the store will know.
            created: the reading at the fill (µs); with encryption, one that the fill is no later than.

        Returns:
            The envelope.

        Raises:
            EncodeError: the body is over ``max_size``, or a duration, time, tag, status or header makes no sense.
        """
        content, flags, body = draft.content, 0, b""
        first: Any = None
        second: Any = None
        third: Any = list(draft.fields)
        if isinstance(content, StoredResponse):
            flags, body = _RESPONSE, content.body
            first, second = content.status, list(chain.from_iterable(content.headers))
        elif isinstance(content, VariantMarker):
            flags, first, second = _MARKER, list(content.fields), list(content.ids)
            third = list(content.until)
        else:
            body = content
        size = len(body)
        if size > self._max_size:
            raise EncodeError(f"{size} bytes are over the limit of {self._max_size}: cache less, or raise it")
        durations = draft.ttl, draft.stale_while_revalidate, draft.stale_if_error, draft.cost
        try:
            meta = [*map(float, durations), size, _joined(draft.origin, draft.place), first, second, third]
            _check_meta(flags, *meta)
            tags = _tags_part(draft, as_of)
            _check_tags(*tags[:3])
            packed_tags, packed_meta = ormsgpack.packb(tags), ormsgpack.packb(meta)
            if size >= self._compress_from:
                body = self._compressed(body)
            flags |= _COMPRESSED * (len(body) < size)
            head = _HEAD.pack(MAGIC, epoch, as_of or 0, created, flags, len(packed_tags), len(packed_meta))
            if self._encryption is not None:
                about, times = _about(key), head[TIMES]
                header, first_part, body = self._encryption.seal(about, head + packed_tags + packed_meta, body)
                return _SEALED.pack(SEALED_MAGIC, times, header, len(first_part)) + first_part + body
            return head + packed_tags + packed_meta + body
        except (TypeError, ValueError, OverflowError, struct.error) as error:
            raise EncodeError(f"an invalid entry: {error}") from error

    def unseal(
        self,
        raw: bytes,
        key: str = "",
        tags: tuple[tuple[str, int], ...] | None = None,
        parts: Parts | None = None,
    ) -> Entry:
        """Read an envelope.

        Args:
            raw: what a store holds under an entry's key.
            key: that key.
            tags: the entry's, when they are known from an earlier reading of the same fill: they are not read again,
                unless the entry is sealed, since nothing else in it says which fill it is of.
            parts: the entry's, with the tags.

        Returns:
            The entry; its content is still encoded.

        Raises:
            DecodeError: it is not an entry of this version, whole, and within ``max_size``.
            SealError: entries are sealed, and it is not, for this key.
        """
        if self._encryption is not None:
            raw, tags, parts = self._opened(raw, key), None, None
        try:
            magic, epoch, as_of, created, flags, tags_size, meta_size = _HEAD.unpack_from(raw)
            if magic != MAGIC or flags > _MARKER:
                raise DecodeError("not an entry of this version")
            meta_at = _HEAD_SIZE + tags_size
            body_at = meta_at + meta_size
            meta = ormsgpack.unpackb(raw[meta_at:body_at])
            kind = flags & ~_COMPRESSED
            _check_meta(kind, *meta)
            ttl, swr, sie, cost, size, origin, first, second, third = meta
            if size > self._max_size:
                raise DecodeError("a body over the limit")
            body = raw[body_at:]
            if flags & _COMPRESSED:
                body = self._decompressed(body, size)
            if len(body) != size:
                raise DecodeError("a body of another size than its entry says")
            if tags is None:
                tags, parts = _unpacked_tags(raw[_HEAD_SIZE:meta_at], as_of, created)
            content: Content = body
            if kind == _RESPONSE:
                texts = iter(second)
                content = StoredResponse(first, tuple(zip(texts, texts, strict=True)), body)
            elif kind:
                content, third = VariantMarker(tuple(first), tuple(second), tuple(third)), ()
            origin, _, place = origin.partition(_BETWEEN)
            fields = tuple(third)
            return Entry(content, epoch, as_of, created, ttl, swr, sie, tags, cost, origin, parts, fields, place)
        except (TypeError, ValueError, struct.error, zstandard.ZstdError) as error:
            raise DecodeError(f"not an entry: {error}") from error

    def unseal_head(self, raw: bytes, key: str = "") -> tuple[Entry, int]:
        """Read an envelope of which only the beginning is there.

        Args:
            raw: the first bytes of what a store holds under an entry's key.
            key: that key.

        Returns:
            The entry with an empty body, and 0; or, when ``raw`` is too short for that, how many bytes are needed.

        Raises:
            DecodeError: it does not begin as an entry of this version.
            SealError: entries are sealed, and it is not, for this key.
        """
        if self._encryption is not None:
            needed = _sealed_head(raw)
            if len(raw) < needed:
                return Entry(b"", 0, 0, 0, 0.0), needed
            raw = self._opened(raw, key, with_body=False)
        try:
            magic, epoch, as_of, created, flags, tags_size, meta_size = _HEAD.unpack_from(raw)
            if magic != MAGIC or flags > _MARKER:
                raise DecodeError("not an entry of this version")
            meta_at = _HEAD_SIZE + tags_size
            needed = meta_at + meta_size
            if len(raw) < needed:
                return Entry(b"", epoch, as_of, created, 0.0), needed
            meta = ormsgpack.unpackb(raw[meta_at:needed])
            kind = flags & ~_COMPRESSED
            _check_meta(kind, *meta)
            ttl, swr, sie, cost, _, origin, first, second, third = meta
            tags, parts = _unpacked_tags(raw[_HEAD_SIZE:meta_at], as_of, created)
            content: Content = b""
            if kind == _RESPONSE:
                content = StoredResponse(first, (), b"")
            elif kind:
                content, third = VariantMarker(tuple(first), tuple(second), tuple(third)), ()
            origin, _, place = origin.partition(_BETWEEN)
            fields = tuple(third)
            return Entry(content, epoch, as_of, created, ttl, swr, sie, tags, cost, origin, parts, fields, place), 0
        except (TypeError, ValueError, struct.error) as error:
            raise DecodeError(f"not an entry: {error}") from error

    def _opened(self, raw: bytes, key: str, *, with_body: bool = True) -> bytes:
        """A sealed entry as a plain one, with the times that are known to be no later than the true ones.

        Raises:
            SealError: it was not sealed with one of the keys for this key.
        """
        assert self._encryption is not None
        body_at = _sealed_head(raw)
        if len(raw) < body_at:
            raise SealError("cut off")
        header, parts = raw[TIMES.stop : _SEALED.size - 4], [raw[_SEALED.size : body_at]]
        if with_body:
            parts.append(raw[body_at:])
        head, *body = self._encryption.open(_about(key), header, *parts)
        epoch, as_of, created = _TIMES_PACKED.unpack_from(raw, TIMES.start)
        known_epoch, known_as_of, latest = _TIMES_PACKED.unpack_from(head, TIMES.start)
        times = _TIMES_PACKED.pack(known_epoch or epoch, min(as_of, known_as_of or latest), min(created, latest))
        return b"".join([head[: TIMES.start], times, head[TIMES.stop :], *body])

    # Other data, without keys left as it is

    def encrypt(self, data: bytes, *about: str) -> bytes:
        """Data of a store that is no entry.

        Args:
            data: what is to be stored.
            about: what it is and belongs to; it opens for nothing else.
        """
        if self._encryption is None:
            return data
        return b"".join(self._encryption.seal(_about(*about), data))

    def decrypt(self, data: bytes, *about: str) -> bytes:
        """What was encrypted.

        Raises:
            SealError: it was not, with one of the keys for ``about``.
        """
        if self._encryption is None:
            return data
        size = self._encryption.header_size
        return self._encryption.open(_about(*about), data[:size], data[size:])[0]

    def _compressed(self, body: bytes) -> bytes:
        """The body as one zstd frame, or as it is when that is no larger."""
        try:
            compressor = self._compressors.pop()
        except IndexError:
            compressor = zstandard.ZstdCompressor(level=self._level)
        frame = compressor.compress(body)
        self._compressors.append(compressor)
        return frame if len(frame) < len(body) else body

    def _decompressed(self, frame: bytes, size: int) -> bytes:
        """What is in the one frame: ``size`` bytes, and none after it."""
        # The size that the frame states decides what is allocated, whatever max_output_size says.
        if zstandard.frame_content_size(frame) != size:
            raise DecodeError("a compressed body of another size than its entry says")
        try:
            decompressor = self._decompressors.pop()
        except IndexError:
            decompressor = zstandard.ZstdDecompressor()
        # By position, which is faster: max_output_size, read_across_frames, allow_extra_data.
        body = decompressor.decompress(frame, 0, False, False)
        self._decompressors.append(decompressor)
        return body


# --- Sealed entries


def _about(*names: str) -> bytes:
    """What sealed bytes are bound to, no two lists of names alike. An entry's has one name, its key."""
    encoded = [name.encode("utf-8", "surrogatepass") for name in names]
    return b"".join([b"%d:%s," % (len(name), name) for name in encoded])


def _sealed_head(raw: bytes) -> int:
    """Where the body of a sealed entry begins, which need not be there.

    Raises:
        SealError: it is no sealed entry.
    """
    if raw[:4] != SEALED_MAGIC or len(raw) < _SEALED.size:
        raise SealError("not sealed: stored without RCACHE_ENCRYPTION_KEYS, or by somebody else")
    size: int = _SEALED.unpack_from(raw)[3]
    return _SEALED.size + size


# --- Tags: those of the load's own as_of, then the others and their readings; on a cluster, then the other shards'


#: Different readings that an entry carries for other shards; more of them become their least.
_READINGS_KEPT: Final = 8


def _tags_part(draft: Draft, as_of: int | None) -> list[Any]:
    part: list[Any] = [list(draft.tags), [], []]
    if draft.inherited:
        clock = _HIGHEST_TIME if as_of is None else as_of
        pairs = draft.tags_as_of(clock)
        others = [(tag, reading) for tag, reading in pairs if reading != clock]
        part = [
            [tag for tag, reading in pairs if reading == clock],
            [tag for tag, _ in others],
            [at for _, at in others],
        ]
    if draft.parts is not None:
        clocks = draft.parts.clocks
        found = list(dict.fromkeys(clocks.values()))
        if len(found) > _READINGS_KEPT:
            found = [reduce(least, found)]
        numbers = {reading: number for number, reading in enumerate(found)}
        part += [draft.parts.epochs, found, [numbers.get(clocks[tag], 0) for tag in (*part[0], *part[1])]]
    return part


def _check_tags(own: Any, others: Any, readings: Any) -> None:
    """Raise ValueError or TypeError where the tags are not what :meth:`Codec.seal` writes."""
    if not (type(own) is type(others) is type(readings) is list) or len(others) != len(readings):
        raise TypeError("tags are not lists")
    "".join(own)  # takes only str
    if others:
        "".join(others)
        if set(map(type, readings)) != {int} or min(readings) < 0 or max(readings) >= _HIGHEST_TIME:
            raise ValueError("a tag has no reading of the clock")


def _unpacked_tags(packed: bytes, as_of: int, created: int) -> tuple[tuple[tuple[str, int], ...], Parts | None]:
    own, others, readings, *rest = ormsgpack.unpackb(packed)
    _check_tags(own, others, readings)
    tags = tuple([(tag, as_of) for tag in own])
    if others:
        if max(readings) > max(as_of, created):
            raise ValueError("a tag has a reading of after the fill")
        tags += tuple(zip(others, readings, strict=True))
    return tags, _unpacked_parts([*own, *others], *rest) if rest else None


def _unpacked_parts(tags: list[str], epochs: Any, readings: Any, numbers: Any) -> Parts:
    """What the entry carries for other shards; raises as :func:`_check_tags` does."""
    vectors = []
    for vector in (epochs, *readings):
        if type(vector) is not list or len(vector) != len(epochs):
            raise TypeError("there is not one reading of each shard")
        if set(map(type, vector)) != {int} or min(vector) < 0 or max(vector) >= _HIGHEST_TIME:
            raise ValueError("no reading of a shard's clock")
        vectors.append(tuple(vector))
    if type(numbers) is not list or set(map(type, numbers)) - {int} or min(numbers, default=0) < 0:
        raise TypeError("a tag has no reading of the shards")
    names, *clocks = vectors
    if max(numbers, default=0) >= max(1, len(clocks)):
        raise ValueError("a tag has a reading that is not there")
    return Parts(names, {tag: clocks[number] for tag, number in zip(tags, numbers, strict=True)})


# --- The meta


#: Between the view that made an entry and the request that it was made for.
_BETWEEN: Final = "\n"


def _joined(origin: str, place: str) -> str:
    if _BETWEEN in origin:
        raise ValueError("the name of a view has a line break in it")
    return f"{origin}{_BETWEEN}{place}" if place else origin


def _check_meta(
    kind: int, ttl: Any, swr: Any, sie: Any, cost: Any, size: Any, origin: Any, first: Any, second: Any, third: Any
) -> None:
    """Raise ValueError or TypeError where the meta is not what :meth:`Codec.seal` writes.

    Every hit runs it: unrolled, and whole lists looked at in one step. ``first``, ``second`` and ``third`` are a
    response's status, headers (names and values by turns) and fields, or a marker's fields, ids and times; a value has
    fields only.
    """
    if not (type(ttl) is type(swr) is type(sie) is type(cost) is float):
        raise TypeError("a duration is not a float")
    if not (0.0 <= ttl < inf and 0.0 <= swr < inf and 0.0 <= sie < inf and 0.0 <= cost < inf):
        raise ValueError("a duration is not a finite number of seconds")
    if type(size) is not int or size < 0 or type(origin) is not str:
        raise TypeError("the size is not a count, or the origin no text")
    if kind == _MARKER:
        _check_marker(first, second, third, size)
        return
    _check_fields(third)
    if kind == _RESPONSE:
        _check_response(first, second)
    elif kind or first is not None or second is not None:
        raise TypeError("a value has a status, or is of an unknown kind")


def _check_response(status: Any, headers: Any) -> None:
    if type(status) is not str or type(headers) is not list or len(headers) % 2:
        raise TypeError("a response has no status, or no headers")
    texts = "".join(headers)
    if "\n" in texts or "\r" in texts or "\0" in texts:
        raise ValueError("a header has a line break in it")
    if _check_head(status, "\n".join(headers[::2]) if headers else None):
        for name, value in zip(headers[::2], headers[1::2], strict=True):
            if name.lower() == "age" and not _AGE.fullmatch(value):
                raise ValueError(f"Age is no number of seconds: {value!r:.80}")


@lru_cache(maxsize=256)
def _check_head(status: str, names: str | None) -> bool:
    """Check a status and the names of headers, one a line; whether ``Age`` is among them. An app has few of each."""
    if not _STATUS.fullmatch(status):
        raise ValueError(f"{status!r:.80} is no status line")
    if names is None:
        return False
    if not _TOKENS.fullmatch(names):
        raise ValueError("the name of a header is no token")
    return "age" in names.lower().split("\n")


def _check_fields(fields: Any) -> None:
    if type(fields) is not list:
        raise TypeError("there are no fields")
    if fields and (not _SELECTORS.fullmatch("".join(fields)) or "" in fields or "*" in fields):
        raise ValueError("a field that selects answers is no name")


def _check_marker(fields: Any, ids: Any, until: Any, size: int) -> None:
    if not (type(ids) is type(until) is list) or size:
        raise TypeError("a variant marker has no ids, or a body")
    _check_fields(fields)
    if not _VARIANT_IDS.fullmatch("".join(ids)) or "" in ids or len(set(map(len, ids))) > 1:
        raise ValueError("the id of a variant is no hexadecimal number")
    if len(until) != len(ids) or (until and set(map(type, until)) != {int}):
        raise ValueError("a variant has no time")

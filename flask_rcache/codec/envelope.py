"""Entries as bytes, and back: the envelope that a store keeps under an entry's key.

Big-endian: magic and version, ``epoch``, ``as_of``, ``created``, flags, length of the meta; the meta, in
MessagePack, with what else an :class:`~flask_rcache.entry.Entry` has and the body's size; the body, an
encoded value or a response's, compressed where that is worth it. A store overwrites the three times in place,
so nothing else depends on them.
"""

from __future__ import annotations

import struct
from itertools import chain
from math import inf
from typing import Any, Final

import ormsgpack
import zstandard

from flask_rcache.errors import DecodeError, EncodeError
from flask_rcache.model.entry import Content, Draft, Entry, StoredResponse

__all__ = ["IDENTITY", "MAGIC", "TIMES", "Codec"]

#: How every entry begins; the last byte is the version of the format.
MAGIC: Final = b"RCE\x01"
#: Where ``epoch``, ``as_of`` and ``created`` lie, which a store writes at the fill.
TIMES: Final = slice(4, 28)
#: Where ``epoch`` and ``as_of`` lie: together they identify one fill.
IDENTITY: Final = slice(4, 20)

_HEAD: Final = struct.Struct(">4sQQQBI")
_HEAD_SIZE: Final = _HEAD.size
_COMPRESSED: Final = 0b01
_RESPONSE: Final = 0b10
#: A response without a status: it says which variants there are. ``delete.lua`` looks at this bit.
_MARKER: Final = 0b100
_HIGHEST_FLAGS: Final = _COMPRESSED | _RESPONSE | _MARKER
_HIGHEST_TIME: Final = 2**64 - 1


class Codec:
    """Entries to bytes and back; holds settings only, and any thread or greenlet may use it.

    Args:
        compress_from: bodies of at least so many bytes are compressed, and kept so if that is smaller.
        level: zstd's level, 1 to 22.
        max_size: the largest body in bytes, before compression, that is written or read.

    Raises:
        ValueError: zstd has no such level.

    >>> codec = Codec()
    >>> entry = codec.unseal(codec.seal(Draft(b"body", ttl=60.0, tags=("product",)), as_of=7))
    >>> entry.content, entry.ttl, entry.tags
    (b'body', 60.0, (('product', 7),))
    """

    def __init__(self, *, compress_from: int = 1024, level: int = 3, max_size: int = 64 * 1024 * 1024) -> None:
        self._compress_from = compress_from
        self._level = level
        self._max_size = max_size
        # A context used by two threads at once crashes the process. One that is out of its list while in use
        # is never shared, by threads or greenlets or after a fork; and idle threads keep none.
        self._compressors = [zstandard.ZstdCompressor(level=level)]
        self._decompressors = [zstandard.ZstdDecompressor()]

    def seal(self, draft: Draft, *, epoch: int = 0, as_of: int = 0, created: int = 0) -> bytes:
        """Write a draft as an envelope.

        Args:
            draft: what a load produced.
            epoch: the stamp set's name; this and the next two a store may overwrite (:data:`TIMES`).
            as_of: µs of the store's clock when the load began.
            created: µs of the store's clock at the fill.

        Returns:
            The envelope.

        Raises:
            EncodeError: the body is over ``max_size``, or a duration, time or tag makes no sense.
        """
        content = draft.content
        if isinstance(content, StoredResponse):
            flags, body, status = _RESPONSE, content.body, content.status
            flags |= 0 if status else _MARKER
            headers = list(chain.from_iterable(content.headers))
        else:
            flags, body, status, headers = 0, content, None, None
        size = len(body)
        if size > self._max_size:
            raise EncodeError(f"{size} bytes are over the limit of {self._max_size}: cache less, or raise it")
        durations = draft.ttl, draft.stale_while_revalidate, draft.stale_if_error, draft.cost
        try:
            meta = [*map(float, durations), list(draft.tags), list(draft.handed), status, headers, size]
            _check(*meta)
            packed_meta = ormsgpack.packb(meta)
            if size >= self._compress_from:
                body = self._compressed(body)
            flags |= _COMPRESSED * (len(body) < size)
            return _HEAD.pack(MAGIC, epoch, as_of, created, flags, len(packed_meta)) + packed_meta + body
        except (TypeError, ValueError, OverflowError, struct.error) as error:
            raise EncodeError(f"an entry that makes no sense: {error}") from error

    def unseal(self, raw: bytes) -> Entry:
        """Read an envelope.

        Args:
            raw: what a store holds under an entry's key.

        Returns:
            The entry; its content is still encoded.

        Raises:
            DecodeError: it is not an entry of this version, whole, and within ``max_size``.
        """
        try:
            magic, epoch, as_of, created, flags, meta_size = _HEAD.unpack_from(raw)
            if magic != MAGIC or flags > _HIGHEST_FLAGS:
                raise DecodeError("not an entry of this version")
            body_at = _HEAD_SIZE + meta_size
            meta = ormsgpack.unpackb(raw[_HEAD_SIZE:body_at])
            _check(*meta)
            ttl, swr, sie, cost, own, handed, status, headers, size = meta
            if size > self._max_size:
                raise DecodeError("a body over the limit")
            body = raw[body_at:]
            if flags & _COMPRESSED:
                body = self._decompressed(body, size)
            if (
                len(body) != size
                or (status is not None) != bool(flags & _RESPONSE)
                or (status == "") != bool(flags & _MARKER)
            ):
                raise DecodeError("a body of another size or kind than its entry says")
            tags = tuple([(tag, as_of) for tag in own])
            if handed:
                tags += tuple([(tag, since) for tag, since in handed])
            content: Content = body
            if status is not None:
                texts = iter(headers)
                content = StoredResponse(status, tuple(zip(texts, texts, strict=True)), body)
            return Entry(content, epoch, as_of, created, ttl, swr, sie, tags, cost)
        except (TypeError, ValueError, struct.error, zstandard.ZstdError) as error:
            raise DecodeError(f"not an entry: {error}") from error

    def unseal_head(self, raw: bytes) -> tuple[Entry, int]:
        """Read an envelope of which only the beginning is there.

        Args:
            raw: the first bytes of what a store holds under an entry's key.

        Returns:
            The entry with an empty body, and 0; or, when ``raw`` is too short for that, how many bytes are needed.

        Raises:
            DecodeError: it does not begin as an entry of this version.
        """
        try:
            magic, epoch, as_of, created, flags, meta_size = _HEAD.unpack_from(raw)
            if magic != MAGIC or flags > _HIGHEST_FLAGS:
                raise DecodeError("not an entry of this version")
            needed = _HEAD_SIZE + meta_size
            empty = Entry(b"", epoch, as_of, created, 0.0)
            if len(raw) < needed:
                return empty, needed
            meta = ormsgpack.unpackb(raw[_HEAD_SIZE:needed])
            _check(*meta)
            ttl, swr, sie, cost, own, handed, status, _, _ = meta
            tags = (*((tag, as_of) for tag in own), *((tag, since) for tag, since in handed))
            content: Content = b"" if status is None else StoredResponse(status, (), b"")
            return Entry(content, epoch, as_of, created, ttl, swr, sie, tags, cost), 0
        except (TypeError, ValueError, struct.error) as error:
            raise DecodeError(f"not an entry: {error}") from error

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
        # The frame's own word on its size decides what is allocated, whatever max_output_size says.
        if zstandard.frame_content_size(frame) != size:
            raise DecodeError("a compressed body of another size than its entry says")
        try:
            decompressor = self._decompressors.pop()
        except IndexError:
            decompressor = zstandard.ZstdDecompressor()
        # By position, which is a tenth faster: max_output_size, read_across_frames, allow_extra_data.
        body = decompressor.decompress(frame, 0, False, False)
        self._decompressors.append(decompressor)
        return body


def _check(
    ttl: Any, swr: Any, sie: Any, cost: Any, own: Any, handed: Any, status: Any, headers: Any, size: Any
) -> None:
    """Raise ValueError or TypeError where the meta is not what :meth:`Codec.seal` writes.

    Every hit runs it: unrolled, and a join, which takes only str, to look at all texts of a list at once.
    """
    if not (type(ttl) is type(swr) is type(sie) is type(cost) is float):
        raise TypeError("a duration is not a float")
    if not (0.0 <= ttl < inf and 0.0 <= swr < inf and 0.0 <= sie < inf and 0.0 <= cost < inf):
        raise ValueError("a duration is not a finite number of seconds")
    if not (type(own) is type(handed) is list) or type(size) is not int or size < 0:
        raise TypeError("tags are not lists, or the size is not a count")
    "".join(own)
    for tag, since in handed:
        if type(tag) is not str or type(since) is not int or not 0 <= since <= _HIGHEST_TIME:
            raise ValueError("a tag handed up is not a str with a time")
    if status is not None or headers is not None:
        if type(status) is not str or type(headers) is not list:
            raise TypeError("a response has no status, or no headers")
        "".join(headers)

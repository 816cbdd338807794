"""Values and entries as bytes, and back, exactly or not at all; no I/O.

Nothing in here can run code: stored bytes may come from whoever can write to the store, so they are data that is
checked, or :class:`~flask_rcache.errors.DecodeError`. The form of whole entries, ``envelope``, is imported by the
stores that need it, as it needs zstd.
"""

from .raised import Errors, Raised, is_raised
from .values import MAX_DEPTH, ValueCodec, decode_value, encode_value

__all__ = ["MAX_DEPTH", "Errors", "Raised", "ValueCodec", "decode_value", "encode_value", "is_raised"]

"""Found first on PYTHONPATH, Python runs this before anything else: a defect in the worker that one record meets.

A record whose key is `poison` raises when it is decoded, as a bug of ours might.
"""

from collections.abc import Iterable

from processor.batch import Decoded, Record
from processor.worker.decode import Decoder

_decode = Decoder.__call__


def decode(self: Decoder, records: Iterable[Record]) -> Decoded:
    records = list(records)
    if b"poison" in {record.key() for record in records}:
        raise ZeroDivisionError(f"{records}: a client's {'words'}")
    return _decode(self, records)


Decoder.__call__ = decode  # type: ignore[method-assign]

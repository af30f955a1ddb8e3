"""Found first on PYTHONPATH, Python runs this before anything else: a worker whose loop stands still for ever at a
record whose key is `wedge`, as a deadlock of ours might; and everybody is less patient than in production.

Once, as the file that the environment names goes: the worker that is started instead gets past it.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path

from processor import liveness
from processor.batch import Decoded, Record
from processor.cli import worker
from processor.worker.decode import Decoder

worker.STUCK_AFTER_S = 2.0  # type: ignore[misc]
liveness.ASK_EVERY_S = 0.5  # type: ignore[misc]
_decode = Decoder.__call__


def decode(self: Decoder, records: Iterable[Record]) -> Decoded:
    records = list(records)
    wedge = Path(os.environ["WEDGE"])
    if b"wedge" in {record.key() for record in records} and wedge.exists():
        wedge.unlink()
        while True:
            time.sleep(1)
    return _decode(self, records)


Decoder.__call__ = decode  # type: ignore[method-assign]

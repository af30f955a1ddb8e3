"""`call-processor worker`, but badly deployed: it rejects calls that are all right: those that name a model.

python rejecting_worker.py <model>...
"""

import sys
from collections.abc import Iterable
from unittest.mock import patch

from processor.batch import Decoded, Record, Reject
from processor.cli import worker
from processor.cli.main import main
from processor.codec.rows import decode_counted
from processor.errors import DeadLetterReason, Rejected
from processor.worker.decode import Decoder, decode_rows

MODELS = set(sys.argv[1:])
HORIZON_DAYS = 35


class RejectingDecoder(Decoder):
    def __call__(self, records: Iterable[Record]) -> Decoded:
        good: list[Record] = []
        bad: list[Record] = []
        for record in records:
            (bad if names_a_model(record) else good).append(record)
        decoded = decode_rows(good, self.horizon_days)
        why = Rejected(DeadLetterReason.INVALID, "a defect of this test")
        return Decoded(decoded.calls, (*decoded.rejects, *(Reject(record, why) for record in bad)), decoded.tombstones)


def names_a_model(record: Record) -> bool:
    try:
        call = decode_counted(record.value() or b"", record_time_ms=record.timestamp()[1], horizon_days=HORIZON_DAYS)
    except Rejected:
        return False
    return any(model in MODELS for model, _ in call.usage)


if __name__ == "__main__":
    sys.argv[1:] = ["worker"]
    with patch.object(worker, "Decoder", RejectingDecoder):
        main()

"""A publisher for tests and for measuring the door alone: it keeps what it was given."""

import asyncio
from collections.abc import Mapping


class MemoryPublisher:
    """`fail_at`: what the n-th publish (from 0) raises. `acknowledging`: clear it, and nobody is acknowledged."""

    def __init__(self, fail_at: Mapping[int, Exception] | None = None) -> None:
        self.records: list[tuple[bytes, bytes]] = []
        self.acknowledging = asyncio.Event()
        self.acknowledging.set()
        self._fail_at = dict(fail_at or {})
        self._attempts = 0

    async def publish(self, key: bytes, value: bytes) -> None:
        attempt = self._attempts
        self._attempts += 1
        if attempt in self._fail_at:
            raise self._fail_at[attempt]
        self.records.append((key, value))
        await self.acknowledging.wait()

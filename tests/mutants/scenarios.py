"""Short runs of the proof with faults chosen by hand: those that a missing guard cannot survive."""

from typing import Final

from tests.chaos.schedule import Planned

EVENTS: Final = 6_000
COUNTED_WITHIN_S: Final = 40.0

SCENARIOS: Final = {
    "dead letters refused": [Planned(3.0, "dead letters refused", 6.0, 0.0)],
    # What a door says without waiting is lost with it.
    "doors killed": [
        Planned(2.0, "broker frozen", 3.0, 0.0),
        Planned(3.0, "door killed", 1.0, 0.0),
        Planned(3.5, "door killed", 1.0, 0.9),
    ],
    # What was read before the broker died is written; Kafka is not told, and never will be.
    "workers killed": [
        Planned(4.0, "broker killed", 2.0, 0.0),
        Planned(5.0, "worker killed", 1.0, 0.0),
        Planned(5.0, "worker killed", 1.0, 0.9),
        Planned(20.0, "worker killed", 1.0, 0.0),
    ],
    "frozen inside COPY": [Planned(2.0, "worker frozen inside COPY", 32.0, 0.0)],
}

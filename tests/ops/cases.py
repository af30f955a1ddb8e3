"""For each alert, what it must fire at, what it must not, and that it ends: three stretches of time in a row."""

from dataclasses import dataclass
from typing import Final

# By series: a gauge's value, or, of a series that GROWS, its growth each minute; None: no sample.
Values = dict[str, float | None]
GROWS: Final = ("_total{", "start_time_seconds{", "lag_records{")

NAMESPACE: Final = 'namespace="calls"'
HOUR: Final = 60
DAY: Final = 24 * HOUR


@dataclass(frozen=True, slots=True)
class Case:
    """`quiet`, then `bad`, then `quiet` again, or `after`, for so many minutes each. `fires`: whether `bad` does it."""

    alert: str
    quiet: Values
    bad: Values
    minutes: tuple[int, int, int] = (30, 30, 30)
    after: Values | None = None
    fires: bool = True

    @property
    def stretches(self) -> list[tuple[int, Values]]:
        after = self.quiet if self.after is None else self.after
        return list(zip(self.minutes, (self.quiet, self.bad, after), strict=True))


def s(name: str, labels: str = "") -> str:
    return f"call_processor_{name}{{{', '.join(filter(None, (NAMESPACE, labels)))}}}"


def requests(reason: str, status: int) -> str:
    return s("requests_total", f'reason="{reason}", status="{status}"')


def build(role: str, version: str = "1.0.0", instance: str = "a") -> str:
    return s("build_info", f'role="{role}", version="{version}", instance="{instance}"')


ACCEPTED: Final = requests("accepted", 200)
SERVED: Final = requests("served", 200)
AWAY: Final = requests("broker_away", 503)
FAULT: Final = requests("fault", 500)
UNAUTHORIZED: Final = requests("unauthorized", 401)
INVALID: Final = requests("invalid", 422)
LAG_S: Final = s("lag_seconds", 'partition="0"')
LAG: Final = s("lag_records", 'partition="0", instance="a", job="w"')
AGE_S: Final = s("checkpoint_age_seconds", 'partition="0", instance="a", job="w"')
STARTED: Final = s("start_time_seconds")
OPEN, PROTECTING = s("breaker_open"), s("protecting_numbers")

CASES: Final = [
    # The objective is 99.9 % accepted. What a client did wrong is not ours, and a load balancer's GET / is no call.
    Case("CallProcessorAcceptanceBurnsFast", {ACCEPTED: 995, AWAY: 5}, {ACCEPTED: 950, AWAY: 50}, (120, 30, 120)),
    Case("CallProcessorAcceptanceBurnsFast", {ACCEPTED: 995, FAULT: 5, SERVED: 1e5},
         {ACCEPTED: 950, FAULT: 50, SERVED: 1e5}, (120, 30, 120)),
    Case("CallProcessorAcceptanceBurnsFast", {ACCEPTED: 1000}, {ACCEPTED: 500, INVALID: 500}, fires=False),
    Case("CallProcessorAcceptanceBurnsFast", {ACCEPTED: 0, AWAY: 0}, {ACCEPTED: 0.2, AWAY: 0.1}, fires=False),
    Case("CallProcessorAcceptanceBurnsSlowly", {ACCEPTED: 10000, AWAY: 5}, {ACCEPTED: 10000, AWAY: 40},
         (6 * HOUR, 6 * HOUR, 8 * HOUR), after={ACCEPTED: 10000, AWAY: 0}),
    Case("CallProcessorIngestAbsent", {build("ingest"): 1}, {build("ingest"): None, build("worker"): 1}),
    Case("CallProcessorWorkerAbsent", {build("worker"): 1}, {build("worker"): None, build("ingest"): 1}),
    Case("CallProcessorBrokerAway", {s("broker_away"): 0}, {s("broker_away"): 1}),
    Case("CallProcessorBrokerAway", {s("log_end_age_seconds"): 110}, {s("log_end_age_seconds"): 130}),
    Case("CallProcessorAnswers503", {ACCEPTED: 960, AWAY: 40}, {ACCEPTED: 900, AWAY: 100}),
    Case("CallProcessorAnswers503", {ACCEPTED: 960}, {ACCEPTED: 900, FAULT: 100}, fires=False),
    Case("CallProcessorProducerQueueNearFull",
         {s("producer_queue_records"): 79_000, s("producer_queue_limit_records"): 100_000},
         {s("producer_queue_records"): 81_000, s("producer_queue_limit_records"): 100_000}),
    Case("CallProcessorProducerQueueNearFull",
         {s("in_flight_requests"): 7_900, s("in_flight_limit_requests"): 10_000},
         {s("in_flight_requests"): 8_100, s("in_flight_limit_requests"): 10_000}),
    Case("CallProcessorProducerQueueNearFull",
         {s("in_flight_bytes"): 79e6, s("in_flight_limit_bytes"): 1e8},
         {s("in_flight_bytes"): 81e6, s("in_flight_limit_bytes"): 1e8}),
    Case("CallProcessorAuthFailuresSurge", {ACCEPTED: 1000, UNAUTHORIZED: 50}, {ACCEPTED: 1000, UNAUTHORIZED: 200}),
    Case("CallProcessorAuthFailuresSurge", {ACCEPTED: 1000}, {ACCEPTED: 1000, requests("forbidden", 403): 200}),
    Case("CallProcessorAuthFailuresSurge", {ACCEPTED: 1}, {ACCEPTED: 1, UNAUTHORIZED: 4}, fires=False),
    Case("CallProcessorKeyFileBroken", {s("key_file_broken"): 0}, {s("key_file_broken"): 1}),
    Case("CallProcessorTrafficStopped", {ACCEPTED: 10, SERVED: 5}, {ACCEPTED: 0, SERVED: 5}, (7 * DAY + 60, 120, 60)),
    Case("CallProcessorTrafficStopped", {ACCEPTED: 10}, {ACCEPTED: 0}, (DAY, 120, 60), fires=False),
    # 99 % of the time no record waits longer than a minute.
    Case("CallProcessorFreshnessBurnsFast", {LAG_S: 59}, {LAG_S: 61}, (60, 30, 60)),
    Case("CallProcessorFreshnessBurnsFast", {LAG_S: 1}, {LAG_S: 61}, (300, 5, 10), fires=False),
    Case("CallProcessorFreshnessBurnsSlowly", {LAG_S: 59}, {LAG_S: 61}, (6 * HOUR, 40, 7 * HOUR)),
    Case("CallProcessorLagGrows", {LAG_S: 50, LAG: 100}, {LAG_S: 100, LAG: 100}, (30, 40, 40)),
    Case("CallProcessorLagGrows", {LAG_S: 50, LAG: 0}, {LAG_S: 100, LAG: -1}, (30, 40, 40), fires=False),
    Case("CallProcessorCheckpointStands", {AGE_S: 4000, LAG: 0}, {AGE_S: 4000, LAG: 1},
         after={AGE_S: 1, LAG: 1}),
    Case("CallProcessorCheckpointStands", {AGE_S: 1, LAG: 1000}, {AGE_S: 299, LAG: 1000}, fires=False),
    Case("CallProcessorSinkUnavailable", {s("waiting"): 0}, {s("waiting"): 1}),
    Case("CallProcessorHorizonAtRisk", {LAG_S: 150_000, s("retention_seconds"): 604_800},
         {LAG_S: 152_000, s("retention_seconds"): 604_800}),
    Case("CallProcessorHorizonAtRisk", {LAG_S: 1}, {LAG_S: 1e9, s("retention_seconds"): float("inf")}, fires=False),
    Case("CallProcessorRestartLoop", {STARTED: 0}, {STARTED: 1}, (60, 20, 60)),
    Case("CallProcessorRestartLoop", {STARTED: 0}, {STARTED: 1}, (60, 3, 1), fires=False),
    Case("CallProcessorLoopStuck", {s("loop_turn_age_seconds"): 59}, {s("loop_turn_age_seconds"): 61}),
    Case("CallProcessorVersionsSkewed", {build("worker"): 1},
         {build("worker"): 1, build("worker", "1.1.0", "b"): 1}, (30, 90, 30)),
    Case("CallProcessorVersionsSkewed", {build("worker"): 1, build("ingest"): 1},
         {build("worker"): 1, build("worker", "1.1.0", "b"): 1}, (30, 40, 30), fires=False),
    Case("CallProcessorRecordsUnaccounted", {s("unaccounted_records"): 0}, {s("unaccounted_records"): 1}),
    Case("CallProcessorRecordsUnaccounted", {s("unaccounted_records"): 0}, {s("unaccounted_records"): -3}),
    # The last scrape before a worker ends is the only one that shows it.
    Case("CallProcessorBreakerOpen", {OPEN: 0, PROTECTING: 0}, {OPEN: 1, PROTECTING: 1}, (30, 1, 30)),
    Case("CallProcessorStoppedToProtectNumbers", {OPEN: 0, PROTECTING: 0}, {OPEN: 0, PROTECTING: 1}, (30, 1, 30)),
    Case("CallProcessorStoppedToProtectNumbers", {OPEN: 0, PROTECTING: 0}, {OPEN: 1, PROTECTING: 1}, fires=False),
    Case("CallProcessorDeadLetters", {s("dead_letters_total", 'reason="invalid"'): 0},
         {s("dead_letters_total", 'reason="invalid"'): 0.1}),
    Case("CallProcessorNativeFailure", {s("native_failures_total"): 0}, {s("native_failures_total"): 1}),
    Case("CallProcessorMaintainNotRun", {s("maintenance_age_seconds"): 10_700}, {s("maintenance_age_seconds"): 10_900}),
    Case("CallProcessorMaintainNotRun", {s("maintenance_age_seconds"): 60},
         {s("maintenance_age_seconds"): float("nan")}, fires=False),
    Case("CallProcessorTomorrowMissing", {s("tomorrow_exists"): 1}, {s("tomorrow_exists"): 0}, (30, 90, 30)),
    Case("CallProcessorTomorrowMissing", {s("tomorrow_exists"): 1}, {s("tomorrow_exists"): float("nan")}, (30, 90, 30),
         fires=False),
]  # fmt: skip

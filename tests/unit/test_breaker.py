from processor.sinks.base import Breaker
from processor.worker.breaker import WINDOW, BreakerLimits

LIMITS = BreakerLimits(run=1000, share=0.5)


def judged(
    good: int, bad: int, *, limits: BreakerLimits = LIMITS, breaker: Breaker | None = None, times: int = 1
) -> Breaker:
    """After `times` times so many good records, then so many bad ones."""
    state = breaker or Breaker()
    offset = 0
    for _ in range(times):
        rejected = range(offset + good, offset + good + bad)
        state = limits.judge(state, range(offset, offset + good + bad), rejected)
        offset += good + bad
        if state.tripped_at is not None:
            break
    return state


def test_a_run_trips_at_its_limit_and_not_before() -> None:
    assert judged(5, 999).tripped_at is None
    assert judged(5, 1000).tripped_at == 1004


def test_a_good_record_ends_a_run() -> None:
    assert judged(1, 999, times=3, limits=BreakerLimits(run=1000, share=0)).tripped_at is None


def test_more_than_half_of_the_window_trips_and_half_does_not() -> None:
    assert judged(10, 10, times=5000).tripped_at is None
    assert judged(9, 11, times=5000).tripped_at is not None


def test_a_few_bad_records_at_the_beginning_do_not_trip_the_share() -> None:
    assert judged(0, 999).tripped_at is None


def test_old_records_fade_from_the_window() -> None:
    state = judged(1, 1, times=2400)
    assert state.rejected == 2400
    state = judged(WINDOW * 20, 0, breaker=state)
    assert state.rejected < 5
    assert state.read <= WINDOW


def test_zero_is_off() -> None:
    assert judged(0, 20_000, limits=BreakerLimits(run=0, share=0)).tripped_at is None


def test_what_an_operator_allowed_is_not_judged() -> None:
    state = LIMITS.judge(Breaker(allowed_to=5000), range(6000), range(6000))
    assert state.tripped_at == 5999
    assert LIMITS.judge(Breaker(allowed_to=5000), range(5999), range(5999)).tripped_at is None

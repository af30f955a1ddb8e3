"""Credentials: what is looked up how, and what that costs."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from statistics import median
from time import perf_counter

import pytest

from processor.ingest.answers import Refused
from processor.ingest.auth import Credentials, Keys, RateLimit
from processor.ingest.key_file import Key, parse_keys

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def key(secret: str, name: str = "", expires_at: datetime | None = None) -> Key:
    return Key(name or secret, sha256(secret.encode()).digest(), ("*/*",), expires_at)


def status_of(credentials: Credentials, authorization: bytes) -> int:
    try:
        credentials.judge([(b"authorization", authorization)])
    except Refused as refused:
        return refused.answer.status
    return 200


def test_a_key_is_replaced_without_a_moment_in_which_none_is_valid() -> None:
    now, keys = NOW, Keys([key("old")])
    credentials = Credentials(lambda: keys, now=lambda: now)

    def both() -> list[int]:
        return [status_of(credentials, b"Bearer old"), status_of(credentials, b"Bearer new")]

    assert both() == [200, 401]
    keys = Keys([key("old", expires_at=NOW + timedelta(hours=1)), key("new")])
    assert both() == [200, 200]
    now += timedelta(hours=1)
    assert both() == [401, 200]
    keys = Keys([key("new")])
    assert both() == [401, 200]


def test_the_scheme_is_read_in_any_case_and_the_key_in_its_own() -> None:
    credentials = Credentials(lambda: Keys([key("Secret")]), now=lambda: NOW)
    assert [status_of(credentials, value) for value in (b"bearer Secret", b"BEARER  Secret", b"Bearer secret")] == [
        200, 200, 401,
    ]  # fmt: skip


@pytest.mark.parametrize("secret", ["schlüssel", "鍵🔑", "a:b:c", "  spaces within  x"])
def test_keys_are_bytes_of_utf_8_whatever_is_in_them(secret: str) -> None:
    import base64  # noqa: PLC0415

    credentials = Credentials(lambda: Keys([key(secret)]), now=lambda: NOW)
    assert status_of(credentials, b"Basic " + base64.b64encode(b"api:" + secret.encode())) == 200
    assert status_of(credentials, b"Basic " + base64.b64encode(b"api:" + secret.encode("utf-16"))) == 401


def test_a_wrong_key_costs_no_more_than_a_right_one_among_ten_thousand() -> None:
    text = "".join(
        f'[keys.k{i}]\nsha256 = "{sha256(b"secret %d" % i).hexdigest()}"\nprojects = ["acme/p{i}", "e{i}/*"]\n'
        for i in range(10_000)
    )
    keys = Keys(parse_keys(text.encode()))
    assert len(keys) == 10_000
    credentials = Credentials(lambda: keys, now=lambda: NOW)
    seconds: dict[int, list[float]] = {200: [], 401: []}
    for i in range(4000):
        authorization = b"Bearer secret %d" % (i if i % 2 else i + 10_000)
        began_s = perf_counter()
        status = status_of(credentials, authorization)
        seconds[status].append(perf_counter() - began_s)
    assert len(seconds[200]) == len(seconds[401]) == 2000
    assert median(seconds[401]) < 5 * median(seconds[200]), "an exception dearer at most"
    assert median(seconds[200]) < 0.000_1


def test_a_rate_below_one_a_second_is_a_wait_of_seconds() -> None:
    now_s = 0.0
    rate, one = RateLimit(0.1, lambda: now_s), key("a")
    rate.count(one)
    with pytest.raises(Refused) as refused:
        rate.count(one)
    assert dict(refused.value.answer.headers)[b"retry-after"] == b"10"
    now_s = 10
    rate.count(one)


def test_what_is_refused_does_not_count_against_the_rate() -> None:
    now_s = 0.0
    rate, one = RateLimit(10, lambda: now_s), key("a")
    for _ in range(10):
        rate.count(one)
    for _ in range(100):
        with pytest.raises(Refused):
            rate.count(one)
    now_s = 0.1
    rate.count(one)


def test_keys_that_are_gone_are_forgotten_by_the_rate() -> None:
    now_s = 0.0
    rate = RateLimit(10, lambda: now_s)
    for i in range(100):
        rate.count(key(str(i)))
    now_s = 61
    rate.count(key("last"))
    assert len(rate._full_at_s) == 1

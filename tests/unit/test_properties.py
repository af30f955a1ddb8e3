"""The file of librdkafka properties: what it may hold, and what is refused by name."""

from pathlib import Path

import pytest

from processor.config import Kafka
from processor.errors import ExitCode, Stop
from processor.kafka.properties import REFUSED, connection_properties

BROKERS = "kafka:9092"


def properties(tmp_path: Path, text: str) -> dict[str, str]:
    file = tmp_path / "kafka.properties"
    file.write_bytes(text.encode())
    return connection_properties(Kafka(properties_file=file), BROKERS)


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(Stop) as caught:
        properties(tmp_path, text)
    assert caught.value.exit_code == ExitCode.USAGE
    return str(caught.value)


def test_without_a_file_there_is_only_the_address() -> None:
    assert connection_properties(Kafka(), BROKERS) == {"bootstrap.servers": BROKERS}


def test_names_and_values_comments_and_blank_lines(tmp_path: Path) -> None:
    text = "\ufeff# for the test cluster\r\n\nsecurity.protocol = SASL_SSL\nsasl.password=a=b#c \n  #no=comment\n"
    assert properties(tmp_path, text) == {
        "security.protocol": "SASL_SSL", "sasl.password": "a=b#c", "bootstrap.servers": BROKERS,
    }  # fmt: skip


@pytest.mark.parametrize(
    "line", ["group.protocol=consumer", "compression.type=zstd", "client.id=mine", "fetch.queue.backoff.ms=5",
             "ssl.ca.location=/etc/ca.pem", "sasl.mechanism=SCRAM-SHA-512", "queue.buffering.max.kbytes=1024"],
)  # fmt: skip
def test_connection_and_tuning_are_the_operators(tmp_path: Path, line: str) -> None:
    name, _, value = line.partition("=")
    assert properties(tmp_path, line)[name] == value


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_would_break_a_promise_is_refused_by_name_and_with_the_reason(tmp_path: Path, name: str) -> None:
    assert f"{name}: not yours to set: {REFUSED[name]}" in refusal(tmp_path, f"{name}=hunter2")


def test_all_that_is_wrong_is_told_at_once_and_no_value(tmp_path: Path) -> None:
    text = (
        "acks=1\nno.such.property=hunter2\nhunter2\nlinger.ms=5\nsecurity.protocol=hunter2\nclient.id=a\nclient.id=b\n"
    )
    told = refusal(tmp_path, text)
    for name in ("acks", "no.such.property", "line 3", "linger.ms", "security.protocol", "client.id: given twice"):
        assert name in told
    assert "hunter2" not in told


def test_a_poll_interval_that_one_turn_of_the_worker_could_exceed_is_refused(tmp_path: Path) -> None:
    assert "max.poll.interval.ms: must be 180000 at least" in refusal(tmp_path, "max.poll.interval.ms=179999")
    assert properties(tmp_path, "max.poll.interval.ms=180000")["max.poll.interval.ms"] == "180000"


def test_a_file_that_cannot_be_read_is_named_by_its_setting(tmp_path: Path) -> None:
    with pytest.raises(Stop, match="KAFKA__PROPERTIES_FILE cannot be read: No such file"):
        connection_properties(Kafka(properties_file=tmp_path / "absent"), BROKERS)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Stop, match="not UTF-8"):
        connection_properties(Kafka(properties_file=tmp_path / "binary"), BROKERS)


def test_every_alias_of_a_refused_property_is_refused() -> None:
    aliases = [
        {"acks", "request.required.acks"}, {"message.timeout.ms", "delivery.timeout.ms"},
        {"linger.ms", "queue.buffering.max.ms"}, {"bootstrap.servers", "metadata.broker.list"},
        {"enable.auto.commit", "auto.commit.enable"}, {"retries", "message.send.max.retries"},
        {"max.in.flight", "max.in.flight.requests.per.connection"},
    ]  # fmt: skip
    for names in aliases:
        assert names <= REFUSED.keys()


def test_a_value_can_be_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("a = ${b}#c\n")
    text = f"sasl.password=${{dir:{tmp_path}:password}}\nssl.ca.location={tmp_path}/ca.pem\n"
    assert properties(tmp_path, text)["sasl.password"] == "a = ${b}#c"
    assert "sasl.password: the file that it names cannot be read: No such" in refusal(
        tmp_path, f"sasl.password=${{dir:{tmp_path}:absent}}\n"
    )
    assert "acks: not yours to set" in refusal(tmp_path, f"acks=${{dir:{tmp_path}:password}}\n")

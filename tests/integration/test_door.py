"""The door as a real process on a real broker: a 200 is a record, whatever happens to the broker or to the door."""

import json
import socket
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from processor.embedded.kafka import EmbeddedKafka
from processor.embedded.ports import LOOPBACK, free_port
from processor.kafka.topics import MIB, Topics, TopicSpec
from tests.posting import Load, post, published
from tests.stack import START_TIMEOUT_S, Installation, Process, Servers, http_status, wait_until, wait_until_ready

pytestmark = pytest.mark.stack

PARTITIONS = 4

# --- on the shared broker


def test_a_200_is_a_record_with_the_right_key_and_value(installation: Installation) -> None:
    process, url = installation.start_ingest()
    wait_until_ready(process)
    answered = [post(url, project_id) for project_id in ("acme/chat", "acmé/größer", "acme/chat")]
    assert [answer.status for answer in answered] == [200] * 3
    assert sorted(published(installation)) == sorted(answer.call_id for answer in answered)


def test_the_records_of_a_project_are_on_the_partition_that_java_clients_choose(installation: Installation) -> None:
    process, url = installation.start_ingest()
    wait_until_ready(process)
    assert post(url, "entity/project").status == 200
    [record] = installation.records(installation.topic)
    assert record.partition() == (murmur2(b"entity/project") & 0x7FFFFFFF) % PARTITIONS


def test_a_client_that_wishes_for_http_2_is_served_over_http_1(installation: Installation) -> None:
    """As Java's HttpClient does, of each first call over plain HTTP."""
    process, url = installation.start_ingest()
    wait_until_ready(process)
    head = b"POST /call/end HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    wish = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
    sent: list[str] = []

    def call() -> bytes:
        call_id = f"call-{len(sent)}"
        sent.append(call_id)
        end = {"project_id": "acme/chat", "id": call_id, "ended_at": datetime.now(UTC).isoformat(), "summary": {}}
        return json.dumps({"end": end}).encode()

    def with_length() -> bytes:
        content = call()
        return b"content-length: %d\r\n\r\n%b" % (len(content), content)

    def in_chunks() -> bytes:
        content = call()
        return b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)

    host, _, port = urlsplit(url).netloc.partition(":")
    for framed in (with_length, in_chunks):
        with socket.create_connection((host, int(port)), timeout=30) as client:
            for pieces in ([wish + framed()], [wish, *(bytes([byte]) for byte in framed())]):
                for piece in (head, *pieces):
                    client.sendall(piece)
                client.sendall(head + framed())  # the next, without waiting for the answer
            client.sendall(head + b"connection: close\r\n" + framed())
            heard = b"".join(iter(lambda: client.recv(65536), b""))
        assert [answer[:3] for answer in heard.split(b"HTTP/1.1 ")[1:]] == [b"200"] * 5
    assert sorted(published(installation)) == sorted(sent)


def test_sigterm_during_load_loses_no_request_of_clients_that_heed_readiness(installation: Installation) -> None:
    process, url = installation.start_ingest(INGEST__SHUTDOWN_WAIT_S="1")
    wait_until_ready(process)
    with Load(url) as load:
        load.wait_for(200, 50)
        process.ask_to_stop()
        wait_until(lambda: http_status(process.admin, "/readyz") == 503, within_s=1, what="readiness ends")
        load.stop()
    wait_until(lambda: process.poll() is not None, within_s=10, what="the process ends")
    assert process.poll() == 0
    assert {answer.status for answer in load.answers} == {200}
    assert load.ids(200) == set(published(installation))


def test_sigterm_without_warning_leaves_no_200_without_a_record(installation: Installation) -> None:
    process, url = installation.start_ingest()
    wait_until_ready(process)
    with Load(url) as load:
        load.wait_for(200, 50)
        process.ask_to_stop()
        wait_until(lambda: process.poll() is not None, within_s=10, what="the process ends")
    assert process.poll() == 0
    assert {answer.status for answer in load.answers} <= {200, 503, None}
    assert load.ids(200) <= set(published(installation))


def test_processes_share_the_door_and_one_that_dies_takes_no_waiting_connection_with_it(
    installation: Installation,
) -> None:
    listen = f"{LOOPBACK}:{free_port()}"
    supervisor = installation.start("ingest", "--processes", "2", INGEST__LISTEN=listen)
    host, _, port = supervisor.admin.rpartition(":")
    doors = [supervisor.admin, f"{host}:{int(port) + 1}"]
    wait_until(
        lambda: [http_status(door, "/readyz") for door in doors] == [200, 200], within_s=20, what="both are ready"
    )
    assert supervisor.pid is not None
    with Load(f"http://{listen}") as load:
        load.wait_for(200, 100)
        first, *_ = psutil.Process(supervisor.pid).children()
        first.kill()
        load.wait_for(200, 100)
        wait_until(lambda: len(psutil.Process(supervisor.pid).children()) == 2, within_s=5, what="it is started again")
    refused = [answer for answer in load.answers if answer.status != 200]
    assert {answer.status for answer in refused} <= {None}, "only what the dead one had taken is broken off"
    assert len(refused) <= len(load.threads)
    assert load.ids(200) <= set(published(installation))


# --- first errors


def test_a_topic_that_is_missing_is_a_sentence_and_exit_code_3(installation: Installation) -> None:
    process, _ = installation.start_ingest(KAFKA__TOPIC="never.made")
    assert ended(process) == (3, "call-processor: topic never.made does not exist: run `call-processor topics`")


def test_an_address_beyond_this_machine_is_a_sentence_and_exit_code_2(installation: Installation) -> None:
    process, _ = installation.start_ingest(f"0.0.0.0:{free_port()}")
    code, sentence = ended(process)
    assert code == 2
    assert "INGEST__AUTH_DISABLED" in sentence


def test_a_door_that_is_taken_is_a_sentence_and_exit_code_3(installation: Installation) -> None:
    first, url = installation.start_ingest()
    wait_until_ready(first)
    second, _ = installation.start_ingest(urlsplit(url).netloc)
    code, sentence = ended(second)
    assert code == 3
    assert "INGEST__LISTEN" in sentence


def test_a_broker_that_refuses_our_password_is_a_sentence_and_exit_code_3(tmp_path: Path) -> None:
    module = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    sasl = {
        "listener.security.protocol.map": "PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.plaintext.plain.sasl.jaas.config": f'{module} username="k" password="k" user_k="k" user_d="d";',
    }
    secret = tmp_path / "kafka.properties"
    with EmbeddedKafka(tmp_path / "kafka", extra_properties=sasl) as kafka:
        installation = Installation(Servers(kafka.bootstrap_servers, "postgresql://unused"), tmp_path)
        installation.settings["KAFKA__PROPERTIES_FILE"] = str(secret)
        connection = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "d"}
        secret.write_text(
            "".join(f"{name}={value}\n" for name, value in connection.items()) + "sasl.password=hunter2\n"
        )
        process, _ = installation.start_ingest()
        code, sentence = ended(process)
        assert code == 3
        assert "refuse this client" in sentence
        assert "hunter2" not in process.log.read_text()

        right = {**connection, "sasl.password": "d"}
        secret.write_text("".join(f"{name}={value}\n" for name, value in right.items()))
        Topics({**right, "bootstrap.servers": kafka.bootstrap_servers}).create(
            TopicSpec(installation.topic, 1, 1, retention_days=1, max_message_bytes=MIB)
        )
        process, url = installation.start_ingest()
        wait_until_ready(process)
        assert post(url).status == 200
        installation.close()


def ended(process: Process) -> tuple[int | None, str]:
    """Exit code and last line."""
    wait_until(lambda: process.poll() is not None, within_s=START_TIMEOUT_S, what=f"{process.name} ends")
    return process.poll(), process.log.read_text().splitlines()[-1]


def murmur2(data: bytes) -> int:
    """As Java's clients compute it (org.apache.kafka.common.utils.Utils.murmur2), unsigned."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ len(data)
    whole = len(data) & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        h = (h * m & mask) ^ ((k ^ k >> 24) * m & mask)
    if len(data) & 3:
        h = (h ^ int.from_bytes(data[whole:], "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15

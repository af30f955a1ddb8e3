"""What can be said of the embedded servers without starting them."""

import hashlib
import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from processor.config import Admin, Ingest, Kafka, Postgres, Settings, offer_ca_bundle
from processor.embedded import jars, pginstall
from processor.embedded.kafka import properties
from processor.embedded.ports import LOOPBACK, free_ports, is_free, listen_addresses, url_of
from processor.embedded.stack import Stack
from processor.errors import ExitCode, Stop

CONTENT = b"a jar"
SUMS = {"org/example/thing/1.0/thing-1.0.jar": hashlib.sha256(CONTENT).hexdigest()}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    for path in SUMS:
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(CONTENT)
    return tmp_path


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server((LOOPBACK, 0)) as server:
        yield server.getsockname()[1]


def test_jars_that_are_there_need_no_network_and_no_word(cache: Path) -> None:
    said: list[str] = []
    assert jars.jars(cache, SUMS, said.append) == [cache / path for path in SUMS]
    assert said == []


def test_a_jar_that_is_not_what_was_recorded_stops_the_start(cache: Path) -> None:
    file = cache / next(iter(SUMS))
    file.write_bytes(CONTENT + b"!")
    with pytest.raises(Stop, match=f"{re.escape(str(file))} does not have the sha256 sum recorded") as stop:
        jars.jars(cache, SUMS, lambda _: None)
    assert stop.value.exit_code == ExitCode.DEPENDENCY


def test_without_the_extra_the_sentence_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jgo.maven", None)
    with pytest.raises(Stop, match=re.escape("pip install 'call-processor[embedded]'")) as stop:
        jars.jars(tmp_path, SUMS, lambda _: None)
    assert stop.value.exit_code == ExitCode.DEPENDENCY
    monkeypatch.setattr(pginstall, "PACKAGE", "no_such_package")
    with pytest.raises(Stop, match=re.escape("pip install 'call-processor[embedded]'")):
        pginstall.installed()


def test_a_certificate_that_is_not_trusted_is_said_to_be_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def intercepted(*_: object, **__: object) -> None:
        raise requests.exceptions.SSLError("certificate verify failed")

    monkeypatch.setattr(requests.Session, "request", intercepted)
    monkeypatch.setattr(requests, "get", intercepted)
    with pytest.raises(Stop, match=r"a certificate was not trusted .* set REQUESTS_CA_BUNDLE to the file") as stop:
        jars.jars(tmp_path, SUMS, lambda _: None)
    assert stop.value.exit_code == ExitCode.DEPENDENCY


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ({}, None),
        ({"PIP_CERT": "pip.pem"}, "pip.pem"),
        ({"PIP_CERT": "pip.pem", "SSL_CERT_FILE": "ssl.pem"}, "ssl.pem"),
        ({"PIP_CERT": "pip.pem", "REQUESTS_CA_BUNDLE": "own.pem"}, "own.pem"),
        ({"PIP_CERT": "pip.pem", "CURL_CA_BUNDLE": "curl.pem"}, None),  # requests looks there by itself
    ],
)
def test_the_fetch_trusts_whom_pip_trusts(
    given: dict[str, str], used: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "PIP_CERT"):
        monkeypatch.setenv(name, given.get(name, ""))  # so that it is as before in the end, whatever is set meanwhile
    offer_ca_bundle()
    assert (os.environ["REQUESTS_CA_BUNDLE"] or None) == used


def test_an_interrupted_fetch_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(staging: Path, path: str) -> Path:
        (staging / "half").write_bytes(CONTENT[:2])
        return staging / "half"

    monkeypatch.setattr(jars, "_fetch_one", half)
    with pytest.raises(Stop, match="sha256"):
        jars.jars(tmp_path, SUMS, lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_the_list_of_jars_names_files_and_sums_and_no_address() -> None:
    recorded = jars.recorded()
    assert f"org/apache/kafka/kafka_2.13/{jars.KAFKA_VERSION}/kafka_2.13-{jars.KAFKA_VERSION}.jar" in recorded
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in recorded.values())
    assert not [path for path in recorded if ":" in path or path.startswith("/")]


def test_one_node_replicates_nothing_and_gives_up_dead_members_within_seconds() -> None:
    p = properties(Path("/data"), 9092, 9093, {})
    assert {value for name, value in p.items() if name.endswith(("replication.factor", "min.isr"))} == {"1"}
    assert p["listeners"] == "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"
    assert int(p["group.min.session.timeout.ms"]) <= 6000
    assert p["group.consumer.session.timeout.ms"] == "6000"


def test_extra_properties_win() -> None:
    assert properties(Path("/data"), 1, 2, {"num.partitions": "7"})["num.partitions"] == "7"


def test_free_ports_differ_and_are_free() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(is_free(port) for port in ports)


def test_a_port_that_somebody_listens_on_is_not_free(taken: int) -> None:
    assert not is_free(taken)


def test_default_addresses_give_way_when_they_are_taken(taken: int) -> None:
    section = Admin.model_construct(listen=f"{LOOPBACK}:{taken}")
    section.__pydantic_fields_set__.clear()
    addresses = listen_addresses("ADMIN__LISTEN", section, count=3)
    assert len(set(addresses)) == 3
    assert f"{LOOPBACK}:{taken}" not in addresses


def test_why_another_port_is_taken_is_said(taken: int) -> None:
    section = Admin.model_construct(listen=f"{LOOPBACK}:{taken}")
    section.__pydantic_fields_set__.clear()
    said: list[str] = []
    (address,) = listen_addresses("ADMIN__LISTEN", section, said.append, count=1)
    port = address.rpartition(":")[2]
    assert said == [
        f"port {taken} is taken by another program: {port} instead (CALL_PROCESSOR_ADMIN__LISTEN chooses another)"
    ]


def test_addresses_that_were_set_do_not_give_way(taken: int) -> None:
    with pytest.raises(Stop, match=f"port {taken} is taken") as stop:
        listen_addresses("INGEST__LISTEN", Ingest(listen=f"{LOOPBACK}:{taken}"), count=1)
    assert stop.value.exit_code == ExitCode.DEPENDENCY


def test_addresses_that_were_set_are_counted_upwards() -> None:
    first = free_ports(1)[0]
    assert listen_addresses("ADMIN__LISTEN", Admin(listen=f"{LOOPBACK}:{first}"), count=2) == [
        f"{LOOPBACK}:{first}",
        f"{LOOPBACK}:{first + 1}",
    ]


def test_the_address_to_connect_to_is_never_a_wildcard() -> None:
    listens = ("127.0.0.1:1", "0.0.0.0:2", "[::]:3")
    assert [url_of(listen) for listen in listens] == ["http://127.0.0.1:1", "http://127.0.0.1:2", "http://[::1]:3"]


def test_configured_servers_are_used_instead_of_embedded_ones(tmp_path: Path) -> None:
    settings = Settings(kafka=Kafka(bootstrap_servers="broker:9092"), postgres=Postgres(dsn="host=db"))  # type: ignore[arg-type]
    stack = Stack(tmp_path, settings, lambda _: None)
    assert (stack.kafka, stack.postgres) == (None, None)
    assert (stack.bootstrap_servers, stack.dsn) == ("broker:9092", "host=db")
    assert stack.environment == {"LOG__FORMAT": "json", "LOG__LEVEL": "info"}  # the rest the children read themselves


def test_two_stacks_do_not_share_a_folder(tmp_path: Path) -> None:
    with Stack(tmp_path, Settings(), lambda _: None):
        with pytest.raises(Stop, match=f"{re.escape(str(tmp_path))} is in use") as stop:
            Stack(tmp_path, Settings(), lambda _: None).__enter__()
        assert stop.value.exit_code == ExitCode.DEPENDENCY
    Stack(tmp_path, Settings(), lambda _: None).__enter__().__exit__()


def test_the_file_for_the_shell_leads_to_the_servers_and_goes_with_them(tmp_path: Path) -> None:
    with Stack(tmp_path, Settings(), lambda _: None) as stack:
        assert stack.kafka is not None
        assert stack.postgres is not None
        stack.kafka._ports, stack.postgres._port = (1, 2), 3
        file = stack.write_env_file()
        assert file == tmp_path / "env"
        assert "export CALL_PROCESSOR_KAFKA__BOOTSTRAP_SERVERS=127.0.0.1:1\n" in file.read_text()
        assert "export CALL_PROCESSOR_POSTGRES__DSN=postgresql://postgres@127.0.0.1:3/postgres\n" in file.read_text()
    assert not file.exists()


def test_forgetting_removes_the_servers_state_and_nothing_else(tmp_path: Path) -> None:
    for name in ("kafka", "postgres", "mine"):
        (tmp_path / name).mkdir()
    with Stack(tmp_path, Settings(), lambda _: None) as stack:
        stack.forget()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "mine"]

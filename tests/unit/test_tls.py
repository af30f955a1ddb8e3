"""The door's certificate: served, replaced under open connections, broken, mended."""

import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPSConnection
from pathlib import Path

import pytest
from pydantic import ValidationError

from processor.config import Ingest, Log
from processor.errors import ExitCode, Stop
from processor.ingest.server import warn_of_plain_http
from processor.ingest.tls import Certificate
from processor.logs import configure
from tests.certificates import Authority, Issued
from tests.running_door import JSON, Running, body, running
from tests.stack import wait_until

HOSTS = ("localhost", "127.0.0.1")


@pytest.fixture(autouse=True)
def _no_handlers_left() -> Iterator[None]:
    yield
    logging.getLogger().handlers.clear()


@contextmanager
def door_with(issued: Issued) -> Iterator[tuple[Running, Certificate]]:
    with (
        Certificate(issued.certificate, issued.key, look_every_s=0.02) as certificate,
        running(tls=certificate.context) as door,
    ):
        yield door, certificate


def client(door: Running, authority: Authority, host: str = "127.0.0.1") -> HTTPSConnection:
    context = ssl.create_default_context(cafile=str(authority.file))
    connection = HTTPSConnection(host, door.port, timeout=10, context=context)
    connection.connect()
    return connection


def serial(connection: HTTPSConnection) -> object:
    assert isinstance(connection.sock, ssl.SSLSocket)
    return (connection.sock.getpeercert() or {})["serialNumber"]


def status(connection: HTTPSConnection) -> int:
    connection.request("POST", "/call/end", body(), JSON)
    answer = connection.getresponse()
    answer.read()
    return answer.status


@pytest.mark.parametrize("host", HOSTS)  # whose name is sent in the handshake, and whose address is not
def test_calls_come_over_tls(tmp_path: Path, host: str) -> None:
    authority = Authority(tmp_path)
    with door_with(authority.issue(tmp_path, "door", *HOSTS)) as (door, _):
        connection = client(door, authority, host)
        assert status(connection) == 200
        connection.close()
        with pytest.raises(ssl.SSLCertVerificationError):
            client(door, Authority(tmp_path / "other"), host)


@pytest.mark.parametrize("host", HOSTS)
def test_a_new_certificate_serves_new_connections_and_old_ones_go_on(tmp_path: Path, host: str) -> None:
    authority = Authority(tmp_path)
    with door_with(authority.issue(tmp_path, "door", *HOSTS)) as (door, _):
        first = client(door, authority, host)
        before = serial(first)
        authority.issue(tmp_path, "door", *HOSTS)
        wait_until(lambda: serial_of(door, authority, host) != before, within_s=10, what="the new one is served")
        assert status(first) == 200
        first.close()


def serial_of(door: Running, authority: Authority, host: str) -> object:
    connection = client(door, authority, host)
    try:
        return serial(connection)
    finally:
        connection.close()


def test_a_pair_that_does_not_fit_changes_nothing_until_it_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(Log(), "ingest")
    authority = Authority(tmp_path)
    issued = authority.issue(tmp_path, "door", *HOSTS)
    fresh = authority.issue(tmp_path, "fresh", *HOSTS)
    with door_with(issued) as (door, certificate):
        before = serial_of(door, authority, HOSTS[0])
        fresh.certificate.replace(issued.certificate)  # in one step, as the door looks meanwhile
        certificate.look()
        certificate.look()
        assert serial_of(door, authority, HOSTS[0]) == before
        said = capsys.readouterr().err
        assert said.count("the certificate read before stays in force") == 1
        assert "KEY_VALUES_MISMATCH" in said
        fresh.key.replace(issued.key)
        certificate.look()
        assert serial_of(door, authority, HOSTS[0]) != before
        issued.key.unlink()
        certificate.look()
        assert "No such file" in capsys.readouterr().err


def test_a_door_does_not_start_without_its_certificate(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue(tmp_path, "door", "localhost")
    other = Authority(tmp_path).issue(tmp_path, "other", "localhost")
    for certificate, key in (
        (tmp_path / "absent", issued.key),
        (issued.certificate, other.key),
        (issued.key, issued.key),
    ):
        with pytest.raises(Stop, match="INGEST__TLS_KEY_FILE cannot be used: ") as caught:
            Certificate(certificate, key)
        assert caught.value.exit_code == ExitCode.USAGE


def test_a_certificate_and_its_key_go_together() -> None:
    with pytest.raises(ValidationError, match="TLS_CERT_FILE and TLS_KEY_FILE go together"):
        Ingest(tls_cert_file=Path("door.crt"))


@pytest.mark.parametrize(
    ("listen", "certificate", "warns"),
    [
        ("127.0.0.1:8080", None, False),
        ("localhost:8080", None, False),
        ("0.0.0.0:8080", None, True),
        ("[::]:8080", None, True),
        ("0.0.0.0:8080", Path("door.crt"), False),
    ],
)
def test_plain_http_beyond_this_machine_warns(
    capsys: pytest.CaptureFixture[str], listen: str, certificate: Path | None, warns: bool
) -> None:
    configure(Log(), "ingest")
    warn_of_plain_http(Ingest(listen=listen, tls_cert_file=certificate, tls_key_file=certificate))
    assert ("the door speaks plain HTTP beyond this machine" in capsys.readouterr().err) is warns

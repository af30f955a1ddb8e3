"""TLS, SASL and ACLs: each role runs with exactly what `call-processor topics --acls` prints, however it comes."""

import base64
import json
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from time import time
from typing import Final

import pytest

from processor.embedded.ports import LOOPBACK, free_ports
from processor.sample.oracle import expect
from processor.sample.posts import sample
from processor.sample.sender import send
from tests.certificates import Authority
from tests.estate import Estate, estate
from tests.guarded import PASSWORD, USER, Guarded
from tests.laws import assert_each_call_counted_once
from tests.stack import Installation, Servers, wait_until_ready

pytestmark = pytest.mark.stack
AT_A_TIME: Final = 3
ENDS_WITHIN_S: Final = 60
ONE: Final = ("--partitions", "1", "--replication-factor", "1")
# Role and ACL, which is left out; {name} is the installation's.
EACH: Final = (
    "ingest: Write on topic {name}.calls",
    "worker: Read on topic {name}.calls",
    "worker: DescribeConfigs on topic {name}.calls",
    "worker: Write on topic {name}.calls.dlq",
    "worker: DescribeConfigs on topic {name}.calls.dlq",
    "worker: Read on group {name}",
    "topics: Create on topic {name}.calls",
    "topics: Create on topic {name}.calls.dlq",
)


def run_all_roles(one: Estate, users: Mapping[str, str], settings: Mapping[str, Mapping[str, str]]) -> None:
    """Topics are made, calls are posted and counted; each role comes as its user, with its settings."""
    for role, acls in one.printed().items():
        one.allow(users[role], acls)
    made = one.installation.output("topics", *ONE, **settings["topics"])
    assert made.count("created") == 2
    worker = one.installation.start_worker(**settings["worker"])
    ingest, url = one.installation.start_ingest(**settings["ingest"])
    wait_until_ready(ingest, worker)
    posts = sample(17, now=datetime.now(UTC), calls=50, bad=False)
    assert {answer.status for answer in send(url, posts)} == {200}
    assert_each_call_counted_once(one.installation, expect(post.parsed() for post in posts))


def test_every_role_runs_by_scram_over_tls_with_the_acls_that_are_printed(
    servers: Servers, guarded: Guarded, tmp_path: Path
) -> None:
    with estate(servers, guarded, tmp_path) as one:
        users = {role: one.name(role) for role in one.printed()}
        run_all_roles(one, users, {role: one.scram(user) for role, user in users.items()})


def test_roles_come_by_certificate_by_plain_and_by_token(servers: Servers, guarded: Guarded, tmp_path: Path) -> None:
    with estate(servers, guarded, tmp_path) as one, token_service() as token_url:
        users = {"ingest": USER, "worker": one.name("worker"), "topics": one.name("topics")}
        run_all_roles(
            one,
            users,
            {
                "ingest": guarded.over_tls(tmp_path / "plain", "PLAIN", username=USER, password=PASSWORD),
                "worker": guarded.with_certificate(tmp_path, users["worker"]),
                "topics": guarded.over_tls(
                    tmp_path / "token", "OAUTHBEARER",
                    oauthbearer_method="oidc", oauthbearer_client_id=users["topics"],
                    oauthbearer_client_secret="s3cret", oauthbearer_token_endpoint_url=token_url,
                ),
            },
        )  # fmt: skip


@contextmanager
def token_service() -> Iterator[str]:
    """Its URL. Grants to each client a token that names it."""
    with HTTPServer((LOOPBACK, 0), TokenService) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://{LOOPBACK}:{server.server_port}/token"
        finally:
            server.shutdown()
            thread.join()


class TokenService(BaseHTTPRequestHandler):
    def do_POST(self) -> None:  # the name is the library's
        client = base64.b64decode(self.headers["authorization"].removeprefix("Basic ")).partition(b":")[0].decode()
        claims = {"sub": client, "iat": int(time()), "exp": int(time()) + 3600}
        token = ".".join(_base64(part) for part in ({"alg": "none"}, claims)) + "."
        answer = json.dumps({"access_token": token, "token_type": "bearer", "expires_in": 3600}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the name is the library's
        pass


def _base64(part: Mapping[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


@dataclass(slots=True)
class Refusals:
    """How a role ended that lacks one ACL; all run beside each other."""

    name: str  # of the installation
    printed: list[str]  # as EACH
    ends: dict[str, "Future[tuple[int, str]]"]


@pytest.fixture(scope="module")
def refusals(servers: Servers, guarded: Guarded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Refusals]:
    with (
        estate(servers, guarded, tmp_path_factory.mktemp("refusals")) as one,
        ThreadPoolExecutor(AT_A_TIME) as pool,
    ):
        one.installation.create_topics()
        refusals = Refusals(one.installation.name, [], {})
        for role, acls in one.printed().items():
            for number, left_out in enumerate(acls):
                case = f"{role}: {left_out}"
                user = one.name(f"{role}-{number}")
                settings = one.scram(user)
                one.allow(user, [acl for acl in acls if acl is not left_out])
                refusals.printed.append(case)
                refusals.ends[case] = pool.submit(ended, one.installation, role, settings)
        yield refusals
        pool.shutdown(cancel_futures=True)


def ended(installation: Installation, role: str, settings: Mapping[str, str]) -> tuple[int, str]:
    """Exit code and what was said."""
    admin, door = free_ports(2)
    arguments = ONE if role == "topics" else ()
    places = {"ADMIN__LISTEN": f"{LOOPBACK}:{admin}", "INGEST__LISTEN": f"{LOOPBACK}:{door}"}
    end = installation.run(role, *arguments, **places, **settings)
    return end.returncode, end.stdout + end.stderr


def test_every_acl_that_is_printed_is_tried(refusals: Refusals) -> None:
    assert refusals.printed == [case.format(name=refusals.name) for case in EACH]


@pytest.mark.parametrize("case", EACH)
def test_a_role_that_lacks_one_acl_names_it(refusals: Refusals, case: str) -> None:
    case = case.format(name=refusals.name)
    code, said = refusals.ends[case].result(ENDS_WITHIN_S)
    lacked = case.partition(": ")[2]
    assert code == 3, said
    assert f"call-processor: this Kafka user lacks {lacked}: `call-processor topics --acls` prints" in said
    assert "Traceback" not in said


def test_a_broker_whose_authority_is_not_ours_is_refused(servers: Servers, guarded: Guarded, tmp_path: Path) -> None:
    with estate(servers, guarded, tmp_path) as one:
        settings = one.scram(one.name("worker"))
        file = Path(settings["KAFKA__PROPERTIES_FILE"])
        other = Authority(tmp_path / "other").file
        file.write_text(file.read_text().replace(str(guarded.authority.file), str(other)))
        code, said = ended(one.installation, "topics", settings)
        assert (code, "the Kafka brokers refuse this client (sasl_ssl://" in said) == (3, True), said

"""Whoever types what docs/security.md says has a hardened installation that takes and counts calls."""

import os
import shutil
import ssl
import sys
from pathlib import Path
from typing import Final

import psycopg
import pytest
import yaml

from processor.config import Kafka
from processor.embedded.ports import LOOPBACK, free_port
from processor.kafka.properties import connection_properties
from tests.certificates import Authority
from tests.chart.kubernetes import NEWEST, OLDEST, problems
from tests.documents import Shell, assert_shows, blocks
from tests.guarded import Guarded
from tests.kafka_tools import kafka_tools
from tests.secured_postgres import guarded_postgres, tls_front

DOCUMENT: Final = "docs/security.md"


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_the_hardened_example_works_as_it_is_written(guarded: Guarded, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir(mode=0o700)
    authority = Authority(tmp_path / "authority")
    authority.issue(secrets, "door", "localhost")
    shutil.copy(guarded.authority.file, secrets / "kafka-ca.pem")
    for name in ("postgres-ca.pem", "door-ca.pem"):
        shutil.copy(authority.file, secrets / name)
    with (
        guarded_postgres(tmp_path / "postgres") as server,
        tls_front(f"{LOOPBACK}:{server.port}", server_context(authority, tmp_path)) as database,
        kafka_tools(tmp_path / "tools", guarded.bootstrap_servers) as tools,
    ):
        door, ingest, worker = free_port(), free_port(), free_port()
        replaced = {
            "kafka.example:9093": guarded.tls_servers,
            "host=postgres.example dbname=calls": f"host={LOOPBACK} port={database.rpartition(':')[2]} dbname=postgres",
            "0.0.0.0:8443": f"{LOOPBACK}:{door}",
            "localhost:8443": f"localhost:{door}",
            "127.0.0.1:9465": f"127.0.0.1:{worker}",
            "9464 9465": f"{ingest} {worker}",
        }
        environment = {
            "PATH": f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "CALL_PROCESSOR_ADMIN__LISTEN": f"127.0.0.1:{ingest}",
        }
        with Shell(tmp_path, environment, replaced) as shell:
            for block in blocks(DOCUMENT):
                if block.language == "sh":
                    assert_shows(block, shell.type(block))
                elif block.language == "sql":
                    with psycopg.connect(server.dsn) as connection:
                        connection.execute(block.code.encode())


def server_context(authority: Authority, folder: Path) -> ssl.SSLContext:
    issued = authority.issue(folder, "postgres", LOOPBACK)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(issued.certificate, issued.key)
    return context


def test_the_other_ways_to_kafka_are_properties_that_it_takes(tmp_path: Path) -> None:
    shown = [block for block in blocks(DOCUMENT) if block.language == "properties"]
    assert len(shown) == 2
    for block in shown:
        file = tmp_path / "kafka.properties"
        file.write_text(block.code)
        properties = connection_properties(Kafka(properties_file=file), "kafka.example:9093")
        assert len(properties) == len(block.code.splitlines()) + 1


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_the_network_policies_are_what_kubernetes_takes(version: str) -> None:
    (block,) = (block for block in blocks(DOCUMENT) if block.language == "yaml")
    policies = list(yaml.safe_load_all(block.code))
    assert [policy["metadata"]["name"] for policy in policies] == ["call-processor-ingest", "call-processor-worker"]
    for policy in policies:
        assert problems(policy, version) == []
        spec = policy["spec"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        assert spec["podSelector"]["matchLabels"]
        for rule in (*spec["ingress"], *spec["egress"]):
            assert rule["ports"], "a rule without ports would open all"
            assert rule.get("from") or rule.get("to"), "a rule without peers would open it to everybody"

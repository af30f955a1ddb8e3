"""Whoever types what the documents say sees what they show."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jgo
import psycopg
import pytest
from psycopg import sql

from processor.calls import USAGE_FIELDS
from processor.embedded.pginstall import installed
from processor.embedded.ports import free_port
from tests.documents import ROOT, Shell, assert_shows, blocks
from tests.stack import Installation

pytestmark = pytest.mark.stack
BARE = {name: os.environ[name] for name in ("PATH", "HOME", "PIP_CACHE_DIR") if name in os.environ}


def test_the_quickstart_and_the_sql_page_work_as_they_are_written(installation: Installation, tmp_path: Path) -> None:
    """In a schema of its own, on the topics that the page itself makes."""
    database = f"{installation.name}_docs"
    with psycopg.connect(installation.servers.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    dsn = installation.servers.dsn.rpartition("/")[0] + f"/{database}"
    door, ingest, worker = free_port(), free_port(), free_port()
    replaced = {
        "~/call-processor": str(ROOT),
        "kafka.example:9092": installation.servers.bootstrap_servers,
        "postgresql://calls@postgres.example/calls": dsn,
        "127.0.0.1:8080": f"127.0.0.1:{door}",
        "127.0.0.1:9465": f"127.0.0.1:{worker}",
        "9464 9465": f"{ingest} {worker}",
    }
    environment = {
        **BARE,
        "CALL_PROCESSOR_INGEST__LISTEN": f"127.0.0.1:{door}",
        "CALL_PROCESSOR_ADMIN__LISTEN": f"127.0.0.1:{ingest}",
    }
    with Shell(tmp_path, environment, replaced) as shell:
        for block in blocks("docs/quickstart.md"):
            assert_shows(block, shell.type(block))
        for block in blocks("docs/sql.md"):
            assert_shows(block, psql(dsn, block.code))
        invoice = next(block.code for block in blocks("docs/sql.md") if "billing.invoice(date" in block.code)
        assert_each_difference_is_invoiced_once(dsn, invoice)


def assert_each_difference_is_invoiced_once(dsn: str, invoice: str) -> None:
    """What came late, what is less now, what is gone, and nothing of another month."""
    late = f"""INSERT INTO usage_totals (project_id, hour, model, call_kind, calls, {", ".join(USAGE_FIELDS)})
               SELECT 'acme/chat', date_trunc('month', now(), 'UTC') + {{}}, 'gpt-4o', 'leaf', 1,
                      {", ".join("n" if field == "total_tokens" else "0" for field in USAGE_FIELDS)}
               FROM (SELECT {{}} AS n)"""
    psql(dsn, late.format("interval '3 hours 1 second'", 7))
    psql(dsn, late.format("interval '-1 second'", 1000))
    assert "acme/chat  | gpt-4o |      7\n(1 row)" in psql(dsn, invoice)
    psql(dsn, "UPDATE usage_totals SET total_tokens = 5 WHERE total_tokens = 7")
    assert "acme/chat  | gpt-4o |     -2\n(1 row)" in psql(dsn, invoice)
    psql(dsn, "DELETE FROM usage_totals WHERE total_tokens = 5")
    assert "acme/chat  | gpt-4o |     -5\n(1 row)" in psql(dsn, invoice)
    assert "(0 rows)" in psql(dsn, invoice)


def psql(dsn: str, statement: str) -> str:
    program = installed() / "bin" / "psql"
    ended = subprocess.run(
        [program, "-X", dsn, "-c", statement], capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_python_reader_of_the_wire_format_reads_the_examples(tmp_path: Path) -> None:
    (block,) = (block for block in blocks("docs/wire-format.md") if block.language == "python")
    program = tmp_path / "read.py"
    program.write_text(block.code, encoding="utf-8")
    ended = subprocess.run([sys.executable, program], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.splitlines()) == len((ROOT / "schemas/call_end.v1.examples.jsonl").read_text().splitlines())


@pytest.mark.skipif(shutil.which("javac") is None, reason="compiling the Java reader needs a JDK: install one")
def test_the_java_reader_of_the_wire_format_reads_the_examples(tmp_path: Path) -> None:
    (block,) = (block for block in blocks("docs/wire-format.md") if block.language == "java")
    (tmp_path / "ReadCalls.java").write_text(block.code, encoding="utf-8")
    path = ":".join(str(artifact.resolve()) for artifact in jgo.resolve("org.apache.avro:avro:1.12.0"))
    examples = [json.loads(line) for line in (ROOT / "schemas/call_end.v1.examples.jsonl").read_text().splitlines()]
    subprocess.run(["javac", "-cp", path, "-d", tmp_path, tmp_path / "ReadCalls.java"], check=True, timeout=60)
    values = [example["value"] for example in examples]
    read = subprocess.run(
        ["java", "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-cp", f"{path}:{tmp_path}", "ReadCalls", *values],
        cwd=ROOT, capture_output=True, encoding="utf-8", timeout=60, check=True,
    )  # fmt: skip
    assert [line.split(" ")[0] for line in read.stdout.splitlines()] == [example["key"] for example in examples]

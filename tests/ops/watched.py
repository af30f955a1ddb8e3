"""`call-processor up` under load, and a real Prometheus that scrapes it and judges the rules on shortened times."""

import json
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from urllib.request import urlopen

from processor.embedded.ports import LOOPBACK, free_port
from tests.ops.tools import program
from tests.rules import FILES, shortened
from tests.stack import wait_until

SCRAPE_S: Final = 1
SELDOM_S: Final = 0.02


class Prometheus:
    """`targets`: by job, the addresses to scrape."""

    def __init__(self, folder: Path, targets: dict[str, list[str]]) -> None:
        folder.mkdir()
        for file in FILES:
            (folder / file.name).write_text(shortened(file.read_text(encoding="utf-8")), encoding="utf-8")
        jobs = [
            {"job_name": job, "static_configs": [{"targets": addresses, "labels": {"namespace": "calls"}}]}
            for job, addresses in targets.items()
        ]
        times = {"scrape_interval": f"{SCRAPE_S}s", "scrape_timeout": f"{SCRAPE_S}s", "evaluation_interval": "1s"}
        config = folder / "prometheus.json"
        config.write_text(json.dumps({"global": times, "rule_files": ["*.yaml"], "scrape_configs": jobs}))
        self._address = f"{LOOPBACK}:{free_port()}"
        self.log = folder / "prometheus.log"
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [program("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
                 f"--web.listen-address={self._address}", "--log.level=warn"],
                stdout=output, stderr=output,
            )  # fmt: skip

    def wait_until_ready(self) -> None:
        wait_until(self._is_ready, within_s=20, what="Prometheus is ready")

    def series(self, selector: str) -> list[dict[str, str]]:
        found: list[dict[str, str]] = self._ask("series", {"match[]": selector})
        return found

    def query(self, expr: str) -> list[tuple[dict[str, str], float]]:
        result = self._ask("query", {"query": expr})["result"]
        return [(each["metric"], float(each["value"][1])) for each in result]

    def firing(self, since_s: float = 0) -> set[str]:
        """Alerts that fire now, or that fired at any moment since then."""
        window_s = max(SCRAPE_S, int(time.time() - since_s)) if since_s else 0
        selector = 'ALERTS{alertstate="firing"}'
        found = self.query(f"last_over_time({selector}[{window_s}s])" if since_s else selector)
        return {labels["alertname"] for labels, _ in found}

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()

    def _ask(self, what: str, parameters: dict[str, str]) -> Any:
        with urlopen(f"http://{self._address}/api/v1/{what}?{urlencode(parameters)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        try:
            with urlopen(f"http://{self._address}/-/ready", timeout=1):
                return True
        except OSError:
            return False


@dataclass
class Load:
    """Calls, posted one after the other over some connections, unless `silent`. `statuses`: what was answered."""

    door: str
    key: str
    pause_s: float = SELDOM_S
    silent: bool = False
    statuses: list[int] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def post(self, number: int) -> None:
        connection = HTTPConnection(self.door, timeout=30)
        while not self._stopping.wait(self.pause_s):
            if self.silent:
                continue
            try:
                connection.request("POST", "/call/end", body(number), self._headers())
                answer = connection.getresponse()
                answer.read()
                self.statuses.append(answer.status)
            except (OSError, HTTPException):
                connection.close()
        connection.close()

    def _headers(self) -> dict[str, str]:
        return {"content-type": "application/json", "authorization": f"Bearer {self.key}"}

    @contextmanager
    def running(self, connections: int = 2) -> Iterator["Load"]:
        with ThreadPoolExecutor(connections) as pool:
            posting = [pool.submit(self.post, number) for number in range(connections)]
            try:
                yield self
            finally:
                self._stopping.set()
        for each in posting:
            each.result()


def body(number: int) -> bytes:
    """A call that was never posted before, of one of a few projects and models."""
    usage = {f"model-{number}": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "requests": 1}}
    return json.dumps(
        {
            "end": {
                "project_id": f"acme/{uuid.uuid4().int % 7}",
                "id": uuid.uuid4().hex,
                "ended_at": datetime.now(UTC).isoformat(),
                "summary": {"usage": usage, "status_counts": {"success": 1}},
            }
        }
    ).encode()

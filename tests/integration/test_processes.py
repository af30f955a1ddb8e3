"""`--processes N`, for real: N direct children, an admin port each, started again, stopped with their parent."""

import psutil

from processor.embedded.ports import LOOPBACK, free_port
from tests.stack import Installation, Process, http_status, wait_until


def start_workers(installation: Installation) -> tuple[Process, list[str]]:
    port = free_port()
    environment = installation.environment(ADMIN__LISTEN=f"{LOOPBACK}:{port}")
    command = ["worker", "--processes", "2"]
    process = Process(command, folder=installation.folder, name="workers", environment=environment)
    process.launch()
    installation.processes.append(process)
    return process, [f"{LOOPBACK}:{port}", f"{LOOPBACK}:{port + 1}"]


def all_ready(addresses: list[str]) -> bool:
    return all(http_status(address, "/readyz") == 200 for address in addresses)


def test_copies_of_a_worker_are_started_again_and_stopped_with_their_parent(installation: Installation) -> None:
    parent, addresses = start_workers(installation)
    wait_until(lambda: all_ready(addresses), within_s=30, what="both are ready, each on its own port")
    family = psutil.Process(parent.pid).children()
    assert ["call-processor worker" in " ".join(child.cmdline()) for child in family] == [True, True]
    family[0].kill()
    wait_until(
        lambda: [c.status() for c in psutil.Process(parent.pid).children()].count(psutil.STATUS_ZOMBIE) == 0
        and family[0] not in psutil.Process(parent.pid).children()
        and all_ready(addresses),
        within_s=30, what="the killed one is ready again",
    )  # fmt: skip
    family = psutil.Process(parent.pid).children()
    assert len(family) == 2
    parent.stop()
    assert parent.poll() == 0
    assert not [child for child in family if child.is_running()]
    assert "worker 0 was ended by signal 9: it is started again in 0.5 s" in parent.log.read_text()

"""TCP ports of this machine: which are free, and what listens where."""

import secrets
import socket
from collections.abc import Callable

from processor.config import PREFIX, Admin, Ingest, split_listen
from processor.errors import ExitCode, Stop

LOOPBACK = "127.0.0.1"
# Below what systems hand out to outgoing connections, one of which could take the port before its server does.
RANGE = range(15000, 32768)


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listened on a moment ago."""
    found: list[int] = []
    while len(found) < count:
        port = secrets.choice(RANGE)
        if port not in found and is_free(port):
            found.append(port)
    return found


def free_port() -> int:
    return free_ports(1)[0]


def is_free(port: int, host: str = LOOPBACK) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free to listen on
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def listen_addresses(
    setting: str, section: Ingest | Admin, say: Callable[[str], None] = lambda _: None, *, count: int
) -> list[str]:
    """`count` addresses from the section's upwards: as set, or the defaults if they are free, or else free ones."""
    host, port = split_listen(section.listen)
    taken = [port + i for i in range(count) if not is_free(port + i, host)]
    if taken and "listen" in section.model_fields_set:
        raise Stop(
            ExitCode.DEPENDENCY, f"port {taken[0]} is taken: set {PREFIX}{setting} to a free one, or leave it unset"
        )
    ports = free_ports(count) if taken else [port + i for i in range(count)]
    if taken:
        instead = ", ".join(map(str, ports))
        say(f"port {taken[0]} is taken by another program: {instead} instead ({PREFIX}{setting} chooses another)")
    return [f"[{host}]:{p}" if ":" in host else f"{host}:{p}" for p in ports]


def url_of(listen: str, scheme: str = "http") -> str:
    """Where a client on this machine finds what listens there."""
    host, port = split_listen(listen)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # where it listens, not where we go
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

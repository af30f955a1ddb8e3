"""A PostgreSQL that asks for passwords, set up as docs/security.md says, and TLS before it.

The server in the wheel has no TLS: a front ends it, which speaks the start of PostgreSQL's protocol. What is tried here
is our side of it; a server's own TLS is tried in `make test-ops`.
"""

import re
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psycopg

from processor.embedded.ports import LOOPBACK
from processor.embedded.postgres import EmbeddedPostgres
from tests.documents import blocks

PASSWORDS: Final = {f"calls_{role}": f"change-me-{role}" for role in ("migrate", "worker", "reader")}
_ASKS_FOR_TLS: Final = struct.pack(">ii", 8, 80877103)
_HBA: Final = f"""\
host all postgres {LOOPBACK}/32 trust
host all all {LOOPBACK}/32 scram-sha-256
"""


@contextmanager
def guarded_postgres(folder: Path) -> Iterator[EmbeddedPostgres]:
    """`postgres` may do everything, all others need their password."""
    with EmbeddedPostgres(folder, settings={"fsync": "off"}) as server:
        (server.data / "pg_hba.conf").write_text(_HBA)
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute("SELECT pg_reload_conf()")
        yield server


def set_up(server: EmbeddedPostgres, schema: str) -> None:
    """What docs/security.md lets an administrator do, in a schema of this name."""
    (statements,) = (block.code for block in blocks("docs/security.md") if block.language == "sql")
    with psycopg.connect(server.dsn) as connection:
        connection.execute(re.sub(r"\bcalls\b", schema, statements).encode())


def dsn_of(role: str, address: str, folder: Path, **parameters: object) -> str:
    """With the password in a file of its own."""
    host, _, port = address.rpartition(":")
    passfile = write_password(folder, role, PASSWORDS[role])
    settings = {"host": host, "port": port, "dbname": "postgres", "user": role, "passfile": passfile, **parameters}
    return " ".join(f"{name}='{value}'" for name, value in settings.items())


def write_password(folder: Path, role: str, password: str) -> Path:
    """As libpq reads it: a colon of the password needs a backslash."""
    passfile = folder / f"{role}.pgpass"
    passfile.touch(mode=0o600)
    escaped = password.replace(":", "\\:")
    passfile.write_text(f"*:*:*:{role}:{escaped}\n")
    return passfile


@contextmanager
def tls_front(target: str, context: ssl.SSLContext) -> Iterator[str]:
    """Its address: whoever comes there in TLS talks to `target`; whoever does not is sent away."""
    host, _, port = target.rpartition(":")
    with socket.create_server((LOOPBACK, 0)) as listening:
        stopping = threading.Event()

        def accept() -> None:
            while not stopping.is_set():
                client, _ = listening.accept()
                threading.Thread(target=serve, args=(client,), daemon=True).start()

        def serve(client: socket.socket) -> None:
            with suppress(OSError), client:
                if client.recv(8) != _ASKS_FOR_TLS:
                    return
                client.sendall(b"S")
                with (
                    context.wrap_socket(client, server_side=True) as secured,
                    socket.create_connection((host, int(port))) as server,
                ):
                    back = threading.Thread(target=_pump, args=(server, secured), daemon=True)
                    back.start()
                    _pump(secured, server)
                    back.join()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        address = f"{LOOPBACK}:{listening.getsockname()[1]}"
        try:
            yield address
        finally:
            stopping.set()
            socket.create_connection(listening.getsockname()).close()
            thread.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)

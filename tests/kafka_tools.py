"""`kafka-acls` and `kafka-configs`, as far as our documents call them: Kafka's own start a JVM for each call.

What is on PATH is a line of shell, which hands its arguments to a server in the test.
"""

import threading
from argparse import ArgumentError, ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Final

from processor.embedded.ports import LOOPBACK
from tests.estate import KINDS, OPERATIONS
from tests.kafka_admin import allow, set_scram_password


def acls(servers: str, parser: ArgumentParser, arguments: Sequence[str]) -> None:
    parser.add_argument("--add", action="store_true", required=True)
    parser.add_argument("--allow-principal", required=True)
    parser.add_argument("--operation", choices=OPERATIONS, required=True)
    which = parser.add_mutually_exclusive_group(required=True)
    for kind in KINDS:
        which.add_argument(f"--{kind}")
    given = parser.parse_args(arguments)
    (kind,) = (kind for kind in KINDS if getattr(given, kind) is not None)
    user = given.allow_principal.removeprefix("User:")
    allow(servers, KINDS[kind], getattr(given, kind), [OPERATIONS[given.operation]], user)


def configs(servers: str, parser: ArgumentParser, arguments: Sequence[str]) -> None:
    parser.add_argument("--alter", action="store_true", required=True)
    parser.add_argument("--entity-type", choices=["users"], required=True)
    parser.add_argument("--entity-name", required=True)
    parser.add_argument("--add-config", required=True)
    given = parser.parse_args(arguments)
    password = given.add_config.removeprefix("SCRAM-SHA-512=[password=").removesuffix("]")
    set_scram_password(servers, given.entity_name, password)


TOOLS: Final[dict[str, Callable[[str, ArgumentParser, Sequence[str]], None]]] = {
    "kafka-acls": acls,
    "kafka-configs": configs,
}


@contextmanager
def kafka_tools(folder: Path, servers: str) -> Iterator[Path]:
    """A folder for PATH, whose tools talk to these servers as an administrator."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name is the library's
            tool = self.path.removeprefix("/")
            lines = self.rfile.read(int(self.headers["content-length"])).decode().splitlines()
            parser = ArgumentParser(tool, allow_abbrev=False, exit_on_error=False)
            for name in ("--bootstrap-server", "--command-config"):
                parser.add_argument(name, required=True)
            try:
                TOOLS[tool](servers, parser, lines)
            except (ArgumentError, SystemExit) as error:
                self.send_error(400, str(error))
            else:
                self.send_response(204)
                self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the name is the library's
            pass

    with HTTPServer((LOOPBACK, 0), Handler) as server:
        folder.mkdir()
        for tool in TOOLS:
            script = folder / tool
            script.write_text(
                "#!/bin/sh\n"
                f"printf '%s\\n' \"$@\" | curl -fsS --data-binary @- http://{LOOPBACK}:{server.server_port}/{tool}\n"
            )
            script.chmod(0o755)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield folder
        finally:
            server.shutdown()
            thread.join()

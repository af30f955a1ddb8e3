"""The door's certificate and its key, as their files change: each handshake takes the newest sound pair."""

import ssl
from pathlib import Path
from typing import Any, Final

import structlog

from processor.config import PREFIX, Ingest
from processor.errors import ExitCode, Stop
from processor.ingest.watched_files import LOOK_EVERY_S, Version, WatchedFiles

log = structlog.get_logger(__name__)

_FILES: Final = f"{PREFIX}INGEST__TLS_CERT_FILE and {PREFIX}INGEST__TLS_KEY_FILE"


class Certificate(WatchedFiles):
    """`context` is what to listen with. Connections that are open keep the certificate that they began with; a pair
    that is broken changes nothing. `Stop` (USAGE) if the first one is."""

    def __init__(self, certificate: Path, key: Path, look_every_s: float = LOOK_EVERY_S) -> None:
        super().__init__(certificate, key, look_every_s=look_every_s)
        self._problem = ""
        self._seen: Version | None = None
        try:
            self._seen = self._version()
            self.context = self._newest = self._loaded()
        except OSError as error:
            raise Stop(ExitCode.USAGE, f"{_FILES} cannot be used: {_why(error)}") from None
        self.context.sni_callback = self._choose

    def look(self) -> None:
        try:
            version = self._version()
            if version == self._seen:
                return
            self._seen = version
            self._newest = self._loaded()
        except OSError as error:
            self._broken(_why(error))
        else:
            self._problem = ""
            log.info("certificate read")

    def _choose(self, connection: Any, name: str | None, context: ssl.SSLContext) -> None:
        """Asked in each handshake, also of clients that name no server."""
        connection.context = self._newest

    def _loaded(self) -> ssl.SSLContext:
        """`OSError` (`ssl.SSLError` is one) if the files are no certificate with its key."""
        certificate, key = self._paths
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key, password=_no_password)
        return context

    def _broken(self, problem: str) -> None:
        """Said once for each problem."""
        if problem != self._problem:
            self._problem = problem
            log.error(f"{_FILES} are broken: the certificate read before stays in force", problem=problem)


def certificate_of(ingest: Ingest) -> Certificate | None:
    if ingest.tls_cert_file is None or ingest.tls_key_file is None:
        return None
    return Certificate(ingest.tls_cert_file, ingest.tls_key_file)


def _no_password() -> str:
    """OpenSSL would ask for it on the terminal."""
    return ""


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "they are no certificate and key in PEM form"
    return error.strerror or type(error).__name__

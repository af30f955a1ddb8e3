"""The settings: the only reader of the environment, `.env` and the folder of secret files.

Every setting is `CALL_PROCESSOR_` + section + `__` + name. The environment wins over `.env`, `.env` over secret files.
All problems are reported at once, by the name that the operator typed, without the value that was wrong.
"""

import os
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, Self

from dotenv import dotenv_values
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from processor.errors import ExitCode, Stop
from processor.wording import said

PREFIX = "CALL_PROCESSOR_"
SECRETS_DIR = PREFIX + "SECRETS_DIR"
STATE = Path(".call-processor")  # of `up` and `demo`
ENV_FILE = STATE / "env"  # written by them: the settings that lead to their servers
CA_BUNDLE = "REQUESTS_CA_BUNDLE"
_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT(_\w+)?)$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$")


def _host_and_port(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not (colon and host and port.isdecimal() and int(port) < 65536):
        raise ValueError("must be host:port, for example 127.0.0.1:8080 or [::1]:8080")
    return value


def _hosts_and_ports(value: str) -> str:
    for one in value.split(","):
        try:
            _host_and_port(one.strip())
        except ValueError:
            raise ValueError("must be host:port,host:port, for example kafka-0:9092,kafka-1:9092") from None
    return value


Brokers = Annotated[str, AfterValidator(_hosts_and_ports)]
Listen = Annotated[str, AfterValidator(_host_and_port)]


def split_listen(listen: str) -> tuple[str, int]:
    """`127.0.0.1:8080` or `[::1]:8080` as host and port."""
    host, _, port = listen.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Kafka(Section):
    bootstrap_servers: Brokers | None = Field(default=None, description="host:port,host:port of the Kafka brokers")
    topic: str = Field(default="llm-call-end", min_length=1, max_length=249, description="topic of finished calls")
    dead_letter_topic: str | None = Field(
        default=None, max_length=249, description="topic of records that can never be counted; `<topic>.dlq` if absent"
    )
    group: str = Field(default="call-processor", min_length=1, description="consumer group of the workers")
    properties_file: Path | None = Field(
        default=None,
        description="librdkafka properties, one `name=value` a line, for the connection (TLS, SASL) and for tuning",
    )

    @property
    def dead_letters(self) -> str:
        return self.dead_letter_topic or f"{self.topic}.dlq"


class Postgres(Section):
    dsn: SecretStr | None = Field(default=None, description="connection string; its search_path chooses the schema")
    dsn_file: Path | None = Field(default=None, description="file that holds the connection string")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.dsn is not None and self.dsn_file is not None:
            raise ValueError("DSN and DSN_FILE are both set: keep one")
        return self


class Ingest(Section):
    listen: Listen = Field(default="127.0.0.1:8080", description="address of the door, `POST /call/end`")
    keys_file: Path | None = Field(
        default=None, description="file of the API keys, read again when it changes; absent: loopback only"
    )
    tls_cert_file: Path | None = Field(
        default=None,
        description="the door's certificate and chain, PEM, read again when it changes; absent: HTTP",
    )
    tls_key_file: Path | None = Field(default=None, description="its private key, PEM, without a password")
    auth_disabled: bool = Field(
        default=False, description="listen beyond loopback although nobody is asked for credentials"
    )
    key_requests_per_s: float = Field(
        default=0, ge=0, description="most requests a second of one key, in each process; 429 above it (0 = no limit)"
    )
    ack_timeout_s: float = Field(default=9, ge=2, le=28, description="longest wait for the broker's acknowledgement")
    max_body_bytes: int = Field(default=8 * 2**20, ge=1024, le=2**30, description="largest request body")
    max_record_bytes: int = Field(
        default=8 * 2**20, ge=1024, le=2**30, description="largest record: the topic's max.message.bytes"
    )
    max_in_flight_bytes: int = Field(
        default=256 * 2**20, ge=1024, description="bytes of bodies received and not yet answered, in each process"
    )
    max_in_flight_requests: int = Field(
        default=10_000, ge=1, description="requests begun and not yet answered, in each process"
    )
    linger_ms: float = Field(default=1, ge=0, le=1000, description="how long the producer collects a batch")
    keep_output: bool = Field(default=True, description="publish `output`; false: it is not kept")
    shutdown_wait_s: float = Field(default=0, ge=0, le=60, description="seconds not ready before the door closes")

    @property
    def delivery_timeout_s(self) -> float:
        """When the producer gives a record up: before its request does, so that the answer knows its fate."""
        return self.ack_timeout_s - 1

    @model_validator(mode="after")
    def _asks_or_does_not(self) -> Self:
        if self.keys_file is not None and self.auth_disabled:
            raise ValueError("KEYS_FILE is set and AUTH_DISABLED is true: keep one")
        return self

    @model_validator(mode="after")
    def _certificate_with_key(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("TLS_CERT_FILE and TLS_KEY_FILE go together: set both, or none")
        return self

    @model_validator(mode="after")
    def _one_body_fits(self) -> Self:
        # As sent and inflated, and large bodies count double: else one alone would be answered 503 for ever.
        if self.max_in_flight_bytes < 4 * self.max_body_bytes:
            raise ValueError("MAX_IN_FLIGHT_BYTES must be at least four times MAX_BODY_BYTES")
        return self

    @model_validator(mode="after")
    def _lingers_less_than_it_waits(self) -> Self:
        if self.linger_ms >= self.delivery_timeout_s * 1000:
            raise ValueError("LINGER_MS must be less than ACK_TIMEOUT_S less a second")
        return self


class Admin(Section):
    listen: Listen = Field(default="127.0.0.1:9464", description="address of /metrics, /livez, /readyz (+ child index)")


class Worker(Section):
    batch_max_records: int = Field(default=20000, ge=1, le=1_000_000, description="records of one transaction")
    batch_max_age_s: float = Field(default=0.25, gt=0, le=60, description="longest wait of a record for its batch")
    dedupe_horizon_days: int = Field(
        default=35, ge=2, le=3650, description="how far back a call may have ended; the door takes one day less"
    )
    # Longer than a transaction may stand idle (5 s): a frozen owner's row is free when its partition moves on. No
    # longer than the loop may take for one turn (max.poll.interval.ms, 180 s at least).
    session_timeout_s: float = Field(default=10, gt=5, le=180, description="a silent worker loses its partitions then")
    breaker_run: int = Field(default=1000, ge=0, description="stop after so many rejected records in a row (0 = off)")
    breaker_share: float = Field(
        default=0.5, ge=0, le=1, description="stop when more than this of the last 10,000 is rejected (0 = off)"
    )


class Log(Section):
    format: Literal["json", "console"] = Field(default="json", description="`json` for machines, `console` for people")
    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="least severity logged")


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", env_file=".env", env_ignore_empty=True,
        frozen=True, extra="ignore", hide_input_in_errors=True,
    )  # fmt: skip

    kafka: Kafka = Kafka()
    postgres: Postgres = Postgres()
    ingest: Ingest = Ingest()
    admin: Admin = Admin()
    worker: Worker = Worker()
    log: Log = Log()

    def bootstrap_servers(self) -> str:
        if not self.kafka.bootstrap_servers:
            raise _missing("KAFKA__BOOTSTRAP_SERVERS", "host:port of a Kafka broker")
        return self.kafka.bootstrap_servers

    def dsn(self) -> str:
        """The PostgreSQL connection string, read anew so that a rotated secret file is seen at the next connection."""
        if self.postgres.dsn is not None:
            return self.postgres.dsn.get_secret_value()
        if self.postgres.dsn_file is None:
            raise _missing("POSTGRES__DSN or POSTGRES__DSN_FILE", "a PostgreSQL connection string")
        try:
            return self.postgres.dsn_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise Stop(
                ExitCode.USAGE, f"{PREFIX}POSTGRES__DSN_FILE cannot be read ({error.strerror}): mount the secret there"
            ) from None


def load() -> Settings:
    """The settings of this process; a `Stop` that names every problem at once."""
    secrets = os.environ.get(SECRETS_DIR) or None
    problems = _no_settings(secrets)
    try:
        settings = Settings(_secrets_dir=secrets)  # type: ignore[call-arg]
    except ValidationError as error:
        found = [(f"{PREFIX}{'__'.join(map(str, e['loc'])).upper()}", said(e)) for e in error.errors()]
        problems += [f"{name}: {what}" for name, what in found if not any(p.startswith(f"{name}:") for p in problems)]
    if problems:
        raise Stop(ExitCode.USAGE, "settings are wrong:\n  " + "\n  ".join(problems))
    return settings


def names() -> list[str]:
    """Of every setting, as an operator types it."""
    sections = ((name, type(field.default)) for name, field in Settings.model_fields.items())
    return [f"{PREFIX}{name}__{field}".upper() for name, section in sections for field in section.model_fields]


def _no_settings(secrets: str | None) -> list[str]:
    """Whatever has our prefix and is no setting: mistyped, it would be ignored in silence."""
    given = {name.upper(): value for name, value in {**dotenv_values(".env"), **os.environ}.items()}
    files = {file.name.upper(): "" for file in Path(secrets).iterdir()} if secrets and Path(secrets).is_dir() else {}
    known = names()
    return [
        f"{name}: there is no such setting{_nearest(name, known)}"
        for name, value in sorted({**files, **given}.items())
        if name.startswith(PREFIX) and name not in {*known, SECRETS_DIR} and not _is_of_kubernetes(name, value or "")
    ]


def _nearest(name: str, known: list[str]) -> str:
    """Without the prefix, which would make all names alike."""
    short = [one.removeprefix(PREFIX) for one in (*known, SECRETS_DIR)]
    found = get_close_matches(name.removeprefix(PREFIX), short, n=1, cutoff=0.7)
    return f"; did you mean {PREFIX}{found[0]}?" if found else "; the README names all"


def _is_of_kubernetes(name: str, value: str) -> bool:
    """A pod gets such variables for each service of its namespace, whose names may begin as ours do."""
    return bool(_SERVICE_LINK.search(name)) or (name.endswith("_PORT") and "://" in value)


def _missing(name: str, what: str) -> Stop:
    sentence = f"{PREFIX}{name} is not set: give it {what}"
    if ENV_FILE.exists():
        sentence += f"; to use the servers of `up` or `demo`, run `. {ENV_FILE}` first"
    return Stop(ExitCode.USAGE, sentence)


def offer_ca_bundle() -> None:
    """Whoever told pip or OpenSSL which certificates to trust has told `requests`, which looks elsewhere, too."""
    if not (os.environ.get(CA_BUNDLE) or os.environ.get("CURL_CA_BUNDLE")):
        told = os.environ.get("SSL_CERT_FILE") or os.environ.get("PIP_CERT")
        if told:
            os.environ[CA_BUNDLE] = told

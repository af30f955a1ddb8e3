"""A broker that knows its clients by password, token or certificate, and allows them only what they were given.

Whoever comes to the plain listener may do everything (the tests' own clients). The others want SASL without TLS (USER),
SASL over TLS (PLAIN, SCRAM-SHA-512, OAUTHBEARER), or a client certificate. Apart from the shared broker, because it is
slower and its clients are refused.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from confluent_kafka.admin import AclOperation, ResourceType  # type: ignore[attr-defined]

from processor.embedded.kafka import EmbeddedKafka
from processor.embedded.ports import LOOPBACK, free_ports
from tests import kafka_admin
from tests.certificates import Authority

USER: Final = "worker"
PASSWORD: Final = "pa55word of=the-worker"
_SECURITY: Final = "org.apache.kafka.common.security"
_PLAIN: Final = f'{_SECURITY}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
# Takes tokens that nobody signed: the token's way is tried, not its signature.
_OAUTHBEARER: Final = f'{_SECURITY}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="kafka";'


@dataclass(frozen=True, slots=True)
class Guarded:
    bootstrap_servers: str  # for everybody
    sasl_servers: str  # for USER
    tls_servers: str  # SASL over TLS
    certificate_servers: str  # for whoever has a certificate of `authority`, under its common name
    authority: Authority

    def properties(self, folder: Path, password: str = PASSWORD) -> dict[str, str]:
        """The settings of a process that comes as USER, without TLS."""
        return self._settings(
            folder / "sasl.properties",
            self.sasl_servers,
            {
                "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN",
                "sasl.username": USER, "sasl.password": password,
            },
        )  # fmt: skip

    def over_tls(self, file: Path, mechanism: str, **sasl: str) -> dict[str, str]:
        """The settings of a process with this file of properties; `sasl`: the rest of SASL's, `_` for `.`."""
        return self._settings(
            file,
            self.tls_servers,
            {
                "security.protocol": "SASL_SSL", "sasl.mechanism": mechanism,
                "ssl.ca.location": str(self.authority.file),
                **{f"sasl.{name.replace('_', '.')}": value for name, value in sasl.items()},
            },
        )  # fmt: skip

    def with_certificate(self, folder: Path, user: str) -> dict[str, str]:
        issued = self.authority.issue(folder, user, f"{user}.test", common_name=user)
        return self._settings(
            folder / f"{user}.properties",
            self.certificate_servers,
            {
                "security.protocol": "SSL", "ssl.ca.location": str(self.authority.file),
                "ssl.certificate.location": str(issued.certificate), "ssl.key.location": str(issued.key),
            },
        )  # fmt: skip

    def set_scram_password(self, user: str, password: str) -> None:
        kafka_admin.set_scram_password(self.bootstrap_servers, user, password)

    def allow(self, kind: ResourceType, name: str, operations: Sequence[AclOperation], user: str = USER) -> None:
        kafka_admin.allow(self.bootstrap_servers, kind, name, operations, user)

    def _settings(self, file: Path, servers: str, properties: dict[str, str]) -> dict[str, str]:
        file.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        return {"KAFKA__BOOTSTRAP_SERVERS": servers, "KAFKA__PROPERTIES_FILE": str(file)}


@contextmanager
def guarded_kafka(state_dir: Path) -> Iterator[Guarded]:
    names = ("PLAINTEXT", "SASL", "TLS", "CERTIFICATE", "CONTROLLER")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    authority = Authority(state_dir)
    extra = {
        "listeners": ",".join(f"{name}://{LOOPBACK}:{port}" for name, port in ports.items()),
        "listener.security.protocol.map":
            "PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SASL_SSL,CERTIFICATE:SSL,CONTROLLER:PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl.plain.sasl.jaas.config": _PLAIN,
        "listener.name.tls.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512,OAUTHBEARER",
        "listener.name.tls.plain.sasl.jaas.config": _PLAIN,
        "listener.name.tls.scram-sha-512.sasl.jaas.config": f"{_SECURITY}.scram.ScramLoginModule required;",
        "listener.name.tls.oauthbearer.sasl.jaas.config": _OAUTHBEARER,
        "listener.name.tls.oauthbearer.sasl.server.callback.handler.class":
            f"{_SECURITY}.oauthbearer.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(authority.issue(state_dir, "broker", LOOPBACK).both),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.file),
        "listener.name.certificate.ssl.client.auth": "required",
        "ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }  # fmt: skip
    with EmbeddedKafka(
        state_dir, port=ports["PLAINTEXT"], controller_port=ports["CONTROLLER"], extra_properties=extra
    ) as kafka:
        sasl, tls, certificate = (f"{LOOPBACK}:{ports[name]}" for name in ("SASL", "TLS", "CERTIFICATE"))
        yield Guarded(kafka.bootstrap_servers, sasl, tls, certificate, authority)

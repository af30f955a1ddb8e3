"""An installation on the broker that asks: users, their passwords in files, and the ACLs that are printed for them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from confluent_kafka.admin import AclOperation, ResourceType  # type: ignore[attr-defined]

from processor.deadline import Deadline
from processor.kafka.acls import Acl
from processor.sinks.postgres.migrate import migrate
from tests.guarded import PASSWORD, Guarded
from tests.stack import START_TIMEOUT_S, Installation, Servers

KINDS: Final = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP}
OPERATIONS: Final = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Create": AclOperation.CREATE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}


@dataclass(slots=True)
class Estate:
    """An installation whose topics are on the broker that asks; nobody of its users may do anything yet."""

    installation: Installation
    guarded: Guarded

    def name(self, role: str) -> str:
        return f"{self.installation.name}-{role}"

    def scram(self, user: str, password: str = PASSWORD) -> dict[str, str]:
        """The settings of a user with this password, which lies in a file of its own."""
        self.guarded.set_scram_password(user, password)
        folder = self.installation.folder
        (folder / f"{user}.password").write_text(password + "\n")
        return self.guarded.over_tls(
            folder / f"{user}.properties", "SCRAM-SHA-512",
            username=user, password=f"${{dir:{folder}:{user}.password}}",
        )  # fmt: skip

    def printed(self) -> dict[str, list[Acl]]:
        """What `call-processor topics --acls` says, by role."""
        printed: dict[str, list[Acl]] = {}
        for line in self.installation.output("topics", "--acls").splitlines():
            role, resource, name, option, operation = line.split(" ")
            assert option == "--operation"
            printed.setdefault(role, []).append(Acl(resource.removeprefix("--"), name, operation))
        return printed

    def allow(self, user: str, acls: Iterable[Acl]) -> None:
        for acl in acls:
            self.guarded.allow(KINDS[acl.resource], acl.name, [OPERATIONS[acl.operation]], user)


@contextmanager
def estate(servers: Servers, guarded: Guarded, folder: Path, *, migrated: bool = True) -> Iterator[Estate]:
    """Without topics; and without a schema, unless it is `migrated`."""
    installation = Installation(Servers(guarded.bootstrap_servers, servers.dsn), folder)
    if migrated:
        installation.create_schema()
        migrate(installation.dsn, Deadline.after(START_TIMEOUT_S))
    try:
        yield Estate(installation, guarded)
    finally:
        installation.close()

"""What an administrator does to topics and users while ours run."""

from collections.abc import Mapping, Sequence

from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

ANSWER_S = 10


def alter(bootstrap_servers: str, topic: str, config: Mapping[str, str]) -> None:
    entries = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in config.items()]
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    admin.incremental_alter_configs([resource])[resource].result(ANSWER_S)


def delete(bootstrap_servers: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    admin.delete_topics([topic])[topic].result(ANSWER_S)


def add_partitions(bootstrap_servers: str, topic: str, total: int) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    admin.create_partitions([NewPartitions(topic, total)])[topic].result(ANSWER_S)


def set_scram_password(bootstrap_servers: str, user: str, password: str) -> None:
    change = UserScramCredentialUpsertion(
        user, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), password.encode()
    )
    admin = _quiet(bootstrap_servers)  # one that nobody holds is closed, and never answers
    admin.alter_user_scram_credentials([change])[user].result(ANSWER_S)


def allow(bootstrap_servers: str, kind: ResourceType, name: str, operations: Sequence[AclOperation], user: str) -> None:
    """To `user`, on this one."""
    acls = [
        AclBinding(kind, name, ResourcePatternType.LITERAL, f"User:{user}", "*", operation, AclPermissionType.ALLOW)
        for operation in operations
    ]
    admin = _quiet(bootstrap_servers)
    for created in admin.create_acls(acls, request_timeout=ANSWER_S).values():
        created.result(ANSWER_S)


def _quiet(bootstrap_servers: str) -> AdminClient:
    """Says only what is wrong."""
    return AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 3})

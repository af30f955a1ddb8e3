"""What may be shown of a connection string: never its password, nor a piece of one that stands in the wrong place."""

from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

MASK: Final = "**********"
_SECRETS: Final = ("password", "sslpassword", "scram_client_key", "scram_server_key", "oauth_client_secret")


def without_password(dsn: str) -> str:
    """The string itself if it holds no secret; else in the form `name=value`, with MASK in place of the secret."""
    read = _read(dsn)
    if read is None:
        return MASK
    secrets = {name: MASK for name in _SECRETS if read.get(name)}
    return make_conninfo("", **{**read, **secrets}) if secrets else dsn


def place(dsn: str) -> str:
    """` at host:port`, or nothing where that is not certain to be no secret."""
    read = _read(dsn)
    if read is None or not read.get("host"):
        return ""
    hosts, ports = read["host"].split(","), (read.get("port") or "5432").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    return " at " + ", ".join(f"{host}:{port}" for host, port in zip(hosts, ports, strict=False))


def _read(dsn: str) -> dict[str, str] | None:
    """None if it is none, or if a password with an `@` or `/` in it was cut into host, port or database."""
    try:
        read = {name: str(value) for name, value in conninfo_to_dict(dsn).items() if value is not None}
    except psycopg.ProgrammingError:
        return None
    public = (read.get("host", ""), read.get("port", ""), read.get("dbname", ""), read.get("user", ""))
    return None if any("@" in part for part in public) or not read.get("port", "0").replace(",", "").isdigit() else read

"""An authority that a test makes up, and what it issues: PEM files, as clients and servers read them."""

from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)


@dataclass(frozen=True, slots=True)
class Issued:
    certificate: Path  # with its chain
    key: Path  # PKCS #8; read by its owner only
    both: Path  # in one file, as Kafka's keystores of type PEM have it


class Authority:
    """Its own certificate is in `file`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, folder: Path, name: str, *hosts: str, common_name: str | None = None) -> Issued:
        """`name`: of the files. Where they are there already, they are replaced, each in one step."""
        made = self._ca.issue_cert(*hosts, common_name=common_name)
        key = load_pem_private_key(made.private_key_pem.bytes(), None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        chain = b"".join(part.bytes() for part in made.cert_chain_pems)
        contents = {f"{name}.crt": chain, f"{name}.key": key, f"{name}.pem": key + chain}
        files = [_replaced(folder / file, content) for file, content in contents.items()]
        return Issued(*files)


def _replaced(path: Path, content: bytes) -> Path:
    fresh = path.with_name(path.name + ".new")
    fresh.touch(mode=0o600)
    fresh.write_bytes(content)
    return fresh.replace(path)

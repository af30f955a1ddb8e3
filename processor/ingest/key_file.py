"""The file of API keys, TOML: who may post, to which projects, until when. It holds digests, never a key.

    [keys.team-a-2026]                      # any name; logs and `keys check` use it
    sha256 = "<64 hexadecimal digits>"      # of the key, as `call-processor keys new` and `keys hash` print it
    projects = ["acme/chat", "acme/eval-*"] # entity/project; *, ? and [...] as in a shell
    expires_at = 2027-01-01T00:00:00Z       # optional

Two entries with the same projects are valid at the same time: that is how a key is replaced.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import translate
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from processor.wording import said

DIGEST_BYTES: Final = 32
_HEADER: Final = re.compile(r"""\s*\[\s*keys\s*\.\s*([\w-]+|"(?:[^"\\]|\\.)*"|'[^']*')\s*\]""")
MAX_REMEMBERED: Final = 1024  # projects of one key whose decision is kept


class BrokenKeyFile(Exception):
    """`problems`: every one, each in a line; none holds a digest or anything else that the file keeps as a value."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Key:
    """`digest`: SHA-256 of the key, 32 bytes. `expires_at`: aware; from then on the key is not valid."""

    id: str
    digest: bytes
    projects: tuple[str, ...]
    expires_at: datetime | None = None
    _decided: dict[str, bool] = field(default_factory=dict, compare=False, repr=False)

    def may_post_to(self, project_id: str) -> bool:
        allowed = self._decided.get(project_id)
        if allowed is None:
            if len(self._decided) >= MAX_REMEMBERED:
                self._decided.clear()
            allowed = self._decided[project_id] = any(_matches(glob, project_id) for glob in self.projects)
        return allowed

    def is_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and now >= self.expires_at


def _matches(glob: str, project_id: str) -> bool:
    """Part by part around the first slash: no wildcard of the entity reaches into the project. `re` keeps what it
    compiled, and what fnmatch makes of a glob never backtracks over a wildcard."""
    entity_glob, _, project_glob = glob.partition("/")
    entity, _, project = project_id.partition("/")
    parts = ((entity_glob, entity), (project_glob, project))
    return all(re.match(translate(glob), part) is not None for glob, part in parts)


def _digest(value: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise ValueError("must be the 64 hexadecimal digits that `call-processor keys hash` prints")
    return value


def _glob(value: str) -> str:
    entity, _, project = value.partition("/")
    if not (entity and project):
        raise ValueError("must be entity/project, for example acme/* or */*")
    return value


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    sha256: Annotated[str, AfterValidator(_digest)]
    projects: Annotated[list[Annotated[str, AfterValidator(_glob)]], Field(min_length=1)]
    expires_at: AwareDatetime | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    keys: Annotated[dict[Annotated[str, StringConstraints(min_length=1)], _Entry], Field(min_length=1)]


def parse_keys(content: bytes) -> tuple[Key, ...]:
    """The keys of this file, at least one; `BrokenKeyFile` with every problem."""
    try:
        raw = tomllib.loads(content.decode())
    except UnicodeDecodeError:
        raise BrokenKeyFile(["the file is not UTF-8"]) from None
    except (ValueError, RecursionError) as error:  # also integers and nesting that no key file has
        if twice := list(_declared_twice(content.decode())):
            raise BrokenKeyFile(twice) from None
        place = re.search(r"\(at .*\)$", str(error))  # the rest of it may quote the file
        raise BrokenKeyFile([f"the file is not TOML {place[0] if place else ''}".rstrip()]) from None
    try:
        entries = _File.model_validate(raw).keys
    except ValidationError as error:
        raise BrokenKeyFile([*map(_problem, error.errors(include_url=False, include_input=False))]) from None
    keys = [
        Key(name, bytes.fromhex(entry.sha256), tuple(entry.projects), entry.expires_at)
        for name, entry in entries.items()
    ]
    if repeated := list(_repeated(keys)):
        raise BrokenKeyFile(repeated)
    return tuple(keys)


def _problem(error: Any) -> str:
    return f"{'.'.join(map(str, error['loc']))}: {said(error)}"


def _declared_twice(text: str) -> Iterator[str]:
    """What `cat` or `>>` makes of two entries of one name; the parser's message tells the place only."""
    lines: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            name = _name(header[1])
            first = lines.setdefault(name, number)
            if first != number:
                yield f"keys.{name}: stands there twice (lines {first} and {number}): rename or remove one"


def _name(written: str) -> str:
    """Without its quotes, if it has some."""
    try:
        return str(tomllib.loads(f"name = {written}")["name"]) if written[0] in "\"'" else written
    except ValueError:
        return written


def _repeated(keys: Iterable[Key]) -> Iterable[str]:
    """One key under two names: whose projects and expiry would hold?"""
    counts = Counter(key.digest for key in keys)
    first: dict[bytes, str] = {}
    for key in keys:
        if counts[key.digest] > 1 and first.setdefault(key.digest, key.id) != key.id:
            yield f"keys.{key.id}.sha256: is that of keys.{first[key.digest]} too"

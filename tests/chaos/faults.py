"""The faults: what each breaks, and how it is mended. None waits for long, as others go on meanwhile."""

import os
import random
import signal
import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Final

import psycopg

from processor.embedded.kafka import EmbeddedKafka
from processor.embedded.postgres import EmbeddedPostgres
from tests import kafka_admin
from tests.chaos.fleet import Member
from tests.chaos.scene import TOTALS, Impossible, Scene
from tests.chaos.schedule import Kind

SESSION_S: Final = 6.0  # a silent worker loses its partitions
PARTITIONS_MOST: Final = 12
HALF_OPEN: Final = 100  # connections
COMMIT: Final = b"COMMIT\0"
DEAD_LETTER_BYTES: Final = 9 * 2**20  # what the installation gives the topic

# What a fault takes hold of, and how many faults may do so at a time: the next one waits until another is over.
CAPACITY: Final = {"broker": 1, "database": 1, "workers": 2, "doors": 2, "dead letters": 1}


class Fault:
    """One that happens: `inject` once, `tick` many times while it lasts, `heal` once, until `healed`."""

    kind: ClassVar[Kind]
    claims: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, scene: Scene, draw: float) -> None:
        self.scene = scene
        self.draw = draw

    def inject(self) -> str:
        """What was hit; `Impossible`."""
        raise NotImplementedError

    def tick(self) -> None: ...

    def heal(self) -> None: ...

    @property
    def healed(self) -> bool:
        return True

    def one_of(self, members: Sequence[Member]) -> Member:
        candidates = [one for one in members if one.runs]
        if not candidates:
            raise Impossible("none runs")
        return candidates[int(self.draw * len(candidates))]


# processes of ours


class KillWorker(Fault):
    """kill -9, and another one in its place some seconds later."""

    kind = Kind(4, 0.0, 8.0)
    claims = frozenset({"workers"})

    def inject(self) -> str:
        self.victim = self.one_of(self.scene.fleet.workers)
        self.scene.lost(self.victim, "killed")
        self.victim.kill()
        return self.victim.name

    def heal(self) -> None:
        self.victim.start()


class KillDoor(Fault):
    """kill -9: nobody learns what became of the requests in flight."""

    kind = Kind(2, 0.0, 5.0)
    claims = frozenset({"doors"})

    def inject(self) -> str:
        self.victim = self.one_of(self.scene.fleet.doors)
        self.victim.kill()
        return self.victim.name

    def heal(self) -> None:
        self.victim.start()


class FreezeWorker(Fault):
    """SIGSTOP for longer than its session lasts: others take its partitions; SIGCONT: it goes on as if nothing was."""

    kind = Kind(2, SESSION_S + 1, SESSION_S + 6)
    claims = frozenset({"workers"})

    def inject(self) -> str:
        self.victim = self.one_of(self.scene.fleet.workers)
        self.freeze(self.victim)
        return self.victim.name

    def freeze(self, worker: Member) -> None:
        self.scene.lost(worker, "frozen")
        worker.freeze()

    def heal(self) -> None:
        self.victim.thaw()


class FreezeInTransaction(FreezeWorker):
    """The same, while it holds the locks of a transaction."""

    claims = frozenset({"workers", "database"})

    def inject(self) -> str:
        with self.scene.worker_inside_its_transaction() as self.victim:
            self.freeze(self.victim)
        return self.victim.name


class FreezeInCopy(FreezeWorker):
    """The same in the worst place: inside COPY with the row locked, where no timeout of PostgreSQL ends it. One more
    worker, with a script that stops there; it leaves afterwards."""

    kind = Kind(1, SESSION_S + 12, SESSION_S + 16)
    claims = frozenset({"database"})

    def inject(self) -> str:
        self.file: Path = self.scene.installation.folder / f"stopped-{self.draw}"
        self.victim = self.scene.fleet.add_scripted_worker(self.file)
        return self.victim.name

    def tick(self) -> None:
        if not self.victim.frozen and self.file.exists():
            self.freeze(self.victim)

    def heal(self) -> None:
        if self.victim.frozen:
            self.victim.thaw()
        self.file.unlink(missing_ok=True)
        self.scene.fleet.remove(self.victim)


class AddWorker(Fault):
    """One more, which goes again: partitions move twice, in good order."""

    kind = Kind(1, 4.0, 12.0)

    def inject(self) -> str:
        self.added = self.scene.fleet.add_worker()
        return self.added.name

    def heal(self) -> None:
        self.scene.fleet.remove(self.added)


# the broker


class KillServer(Fault):
    name: ClassVar[str]
    mending: "Future[object] | None" = None

    @property
    def healed(self) -> bool:
        """Raises what kept the server from starting."""
        if self.mending is None or not self.mending.done():
            return False
        self.mending.result()
        return True

    @property
    def server(self) -> EmbeddedKafka | EmbeddedPostgres:
        raise NotImplementedError

    def inject(self) -> str:
        self.server.kill()
        return self.name

    def heal(self) -> None:
        self.mending = self.scene.start_again(self.server)


class KillBroker(KillServer):
    """kill -9. Nothing that it had acknowledged is lost: the page cache outlives the process."""

    kind = Kind(1, 0.0, 5.0)
    claims = frozenset({"broker"})
    name = "Kafka"

    @property
    def server(self) -> EmbeddedKafka:
        return self.scene.kafka


class FreezeBroker(Fault):
    """Half-open: connections stay, nothing is answered, and what was sent may arrive late."""

    kind = Kind(1, 2.0, 12.0)
    claims = frozenset({"broker"})

    def inject(self) -> str:
        self.signal(signal.SIGSTOP)
        return "Kafka"

    def heal(self) -> None:
        self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        pid = self.scene.kafka.pid
        if pid is None:
            raise Impossible("Kafka does not run")
        os.kill(pid, number)


class AddPartitions(Fault):
    """From now on projects may lie on other partitions than before, repeats of their calls too."""

    kind = Kind(1, 0.0, 0.0)
    claims = frozenset({"broker"})

    def inject(self) -> str:
        if self.scene.partitions >= PARTITIONS_MOST:
            raise Impossible(f"there are {PARTITIONS_MOST} already")
        topic, servers = self.scene.installation.topic, self.scene.installation.servers
        kafka_admin.add_partitions(servers.bootstrap_servers, topic, self.scene.partitions + 1)
        self.scene.partitions += 1
        return f"now {self.scene.partitions}"


class RefuseDeadLetters(Fault):
    """The topic takes no letter of any size: workers stop rather than skip, and try again when they are started."""

    kind = Kind(1, 4.0, 8.0)
    claims = frozenset({"broker", "dead letters"})

    def inject(self) -> str:
        self.limit(1)
        return self.scene.installation.dead_letter_topic

    def heal(self) -> None:
        self.limit(DEAD_LETTER_BYTES)

    def limit(self, size: int) -> None:
        installation = self.scene.installation
        config = {"max.message.bytes": str(size)}
        kafka_admin.alter(installation.servers.bootstrap_servers, installation.dead_letter_topic, config)


# the database


class RestartDatabase(KillServer):
    """Immediate shutdown: every session ends where it is, and the log is recovered."""

    kind = Kind(2, 0.0, 6.0)
    claims = frozenset({"database"})
    name = "PostgreSQL"

    @property
    def server(self) -> EmbeddedPostgres:
        return self.scene.postgres


class CutConnections(Fault):
    """All of the workers', while one is inside its transaction; then none can be made for a while."""

    kind = Kind(2, 0.0, 3.0)
    claims = frozenset({"database"})

    def inject(self) -> str:
        with self.scene.worker_inside_its_transaction() as worker:
            self.scene.proxy.cut()
        return worker.name

    def heal(self) -> None:
        self.scene.proxy.resume()


class LoseCommit(Fault):
    """The next COMMIT is done, and its answer does not arrive."""

    kind = Kind(2, 2.0, 3.0)
    claims = frozenset({"database"})

    def inject(self) -> str:
        self.scene.proxy.lose_answer(COMMIT)
        return "the next COMMIT"


class SilenceDatabase(Fault):
    """The network swallows everything; what was sent arrives later."""

    kind = Kind(1, 2.0, 9.0)
    claims = frozenset({"database"})

    def inject(self) -> str:
        self.scene.proxy.hang()
        return "PostgreSQL"

    def heal(self) -> None:
        self.scene.proxy.resume()


class LockTotals(Fault):
    """Somebody looks at the rows that are written most, and holds them."""

    kind = Kind(1, 1.0, 7.0)
    claims = frozenset({"database"})

    def inject(self) -> str:
        self.session = self.scene.session()
        query = f"SELECT FROM {TOTALS} ORDER BY updated_at DESC LIMIT 50 FOR UPDATE"
        with suppress(psycopg.errors.LockNotAvailable):
            self.session.execute("BEGIN")
            return f"{self.session.execute(query).rowcount} rows"
        self.session.close()
        raise Impossible("the rows are locked")

    def heal(self) -> None:
        self.session.close()


# the door's clients


class HalfOpenClients(Fault):
    """Connections that send the beginning of a request and then a byte now and then, or nothing."""

    kind = Kind(1, 5.0, 15.0)

    def inject(self) -> str:
        self.sockets: list[socket.socket] = []
        for number in range(HALF_OPEN):
            with suppress(OSError):  # that door is away
                one = socket.create_connection(self.scene.fleet.addresses[number % 2], timeout=1)
                one.setblocking(False)
                one.send(b"POST /call/end HTTP/1.1\r\nhost: door\r\ncontent-type: application/json\r\n")
                if number % 4 < 2:
                    one.send(b'content-length: 100000\r\n\r\n{"end":')
                self.sockets.append(one)
        return f"{len(self.sockets)} connections"

    def tick(self) -> None:
        for one in random.sample(self.sockets, min(2, len(self.sockets))):
            with suppress(OSError):
                one.send(b" ")

    def heal(self) -> None:
        for one in self.sockets:
            one.close()


FAULTS: Final[Mapping[str, type[Fault]]] = {
    "worker killed": KillWorker,
    "worker frozen": FreezeWorker,
    "worker frozen in a transaction": FreezeInTransaction,
    "worker frozen inside COPY": FreezeInCopy,
    "worker added and removed": AddWorker,
    "door killed": KillDoor,
    "broker killed": KillBroker,
    "broker frozen": FreezeBroker,
    "partition added": AddPartitions,
    "dead letters refused": RefuseDeadLetters,
    "database restarted": RestartDatabase,
    "connections cut in a transaction": CutConnections,
    "answer to COMMIT lost": LoseCommit,
    "database silent": SilenceDatabase,
    "totals locked": LockTotals,
    "half-open clients": HalfOpenClients,
}
KINDS: Final[Mapping[str, Kind]] = {name: fault.kind for name, fault in FAULTS.items()}

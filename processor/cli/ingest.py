"""`call-processor ingest`: the door, from HTTP to an acknowledged record."""

import socket
import time
from contextlib import nullcontext
from typing import Annotated, Final

import structlog
import typer

from processor import config, logs
from processor.admin import AdminServer, Health
from processor.cli.process import collect_garbage_seldom, process_metrics
from processor.config import Ingest, Settings
from processor.ingest.app import Door, utc_now
from processor.ingest.auth import Credentials, Keys, RateLimit
from processor.ingest.key_store import KeyStore
from processor.ingest.outage import Outage
from processor.ingest.publisher import KafkaPublisher
from processor.ingest.room import make_room
from processor.ingest.server import DoorServer, bind, refuse_open_door, warn_of_plain_http
from processor.ingest.tls import certificate_of
from processor.ingest.topic_watch import TopicWatch
from processor.kafka.producer import Producer
from processor.kafka.promises import producer_properties
from processor.kafka.properties import connection_properties
from processor.metrics import IngestMetrics, new_registry
from processor.supervise import run_processes

log = structlog.get_logger(__name__)

STUCK_AFTER_S: Final = 30.0


def run(
    processes: Annotated[int, typer.Option(min=1, help="Processes that share the door's address.")] = 1,
    door_fd: Annotated[int | None, typer.Option(hidden=True, help="The door's socket, inherited.")] = None,
) -> None:
    """Take LLM calls: POST /call/end, answered when Kafka has acknowledged the record."""
    settings = config.load()
    logs.configure(settings.log, "ingest")
    refuse_open_door(settings.ingest)
    if door_fd is None:  # once, not by each process
        warn_of_plain_http(settings.ingest)
    with bind(settings.ingest.listen) if door_fd is None else socket.socket(fileno=door_fd) as door:
        if processes > 1:
            # One listening socket for all: what waits in it is taken by another process when one of them dies.
            arguments = ["--door-fd", str(door.fileno())]
            run_processes("ingest", processes, settings, arguments=arguments, pass_fds=[door.fileno()])
        else:
            serve(settings, door)


def serve(settings: Settings, listening: socket.socket) -> None:
    """Until SIGTERM or SIGINT; whatever was taken is answered by then."""
    ingest, topic, room = settings.ingest, settings.kafka.topic, make_room()
    registry = new_registry()
    process, metrics = process_metrics(registry, "ingest"), IngestMetrics(registry)
    outage = Outage(lambda away, why: _outage_changed(metrics, away=away, why=why))
    properties = producer_properties(
        connection_properties(settings.kafka, settings.bootstrap_servers()),
        delivery_timeout_s=ingest.delivery_timeout_s,
        max_record_bytes=ingest.max_record_bytes,
        linger_ms=ingest.linger_ms,
    )
    producer = Producer(properties, outage.on_event, on_statistics=process.kafka)
    metrics.producer_queue_records.set_function(producer.waiting)
    metrics.producer_queue_limit_records.set(producer.queue_limit)
    publisher = KafkaPublisher(
        producer.produce, topic, outage, metrics, ack_timeout_s=ingest.ack_timeout_s, serve=producer.serve
    )
    keys = None
    if ingest.keys_file is not None:
        keys = KeyStore(ingest.keys_file, lambda found, broken: _keys_looked_at(metrics, found, broken=broken))
    door = Door(
        publisher,
        ingest,
        metrics,
        horizon_days=settings.worker.dedupe_horizon_days,
        credentials=None if keys is None else _credentials(ingest, keys),
    )
    certificate = certificate_of(ingest)
    server = DoorServer(door, ingest, room, None if certificate is None else certificate.context)
    process.loop_turn_age_seconds.set_function(server.seconds_since_tick)
    watch = TopicWatch(producer.partitions, topic, outage)
    health = Health(
        alive=lambda: _stuck(server, producer),
        ready=lambda: _not_ready(server, watch, keys),
        notes=lambda: _notes(outage, keys),
    )
    try:
        with (
            keys or nullcontext(),
            certificate or nullcontext(),
            AdminServer(settings.admin.listen, registry, health),
            watch,
        ):
            watch.wait_for_first_answer()
            collect_garbage_seldom()
            log.info("the door is open", listen=ingest.listen, topic=topic)
            server.run(sockets=[listening])
            log.info("the door is closed")
    finally:
        producer.close(ingest.ack_timeout_s)


def _credentials(ingest: Ingest, keys: KeyStore) -> Credentials:
    rate = RateLimit(ingest.key_requests_per_s, time.monotonic) if ingest.key_requests_per_s else None
    return Credentials(keys.current, now=utc_now, rate=rate)


def _keys_looked_at(metrics: IngestMetrics, found: Keys | None, *, broken: bool) -> None:
    metrics.keys.set(len(found or ()))
    metrics.key_file_broken.set(broken)


def _outage_changed(metrics: IngestMetrics, *, away: bool, why: str) -> None:
    metrics.broker_away.set(away)
    if away:
        log.warning("the brokers are away: answering 503", reason=why)
    else:
        log.info("the brokers are back")


def _stuck(server: DoorServer, producer: Producer) -> str | None:
    """Only what a restart mends: never a broker that does not answer."""
    if server.seconds_since_tick() > STUCK_AFTER_S:
        return f"the event loop has not turned for {server.seconds_since_tick():.0f} s"
    return None if producer.is_alive else "delivery reports are not served any more"


def _notes(outage: Outage, keys: KeyStore | None) -> list[str]:
    notes = ["no broker answers: every call is answered 503"] if outage.is_known else ["the brokers answer"]
    if keys is not None and keys.broken:
        notes.append("the key file is broken: the keys that were read before are in force")
    return notes


def _not_ready(server: DoorServer, watch: TopicWatch, keys: KeyStore | None) -> str | None:
    """Once ready, only stopping ends it: if all doors left whenever the broker does, clients would lose the 503."""
    if server.stopping:
        return "stopping"
    if keys is not None and keys.current() is None:
        return "the key file could not be read yet"
    return None if watch.seen else "the topic has not been seen yet"

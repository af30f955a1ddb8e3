"""Logging: one event for each change of state, as JSON for machines or text for people, on stderr.

Everything ends in one place: our own events (structlog), the standard library's, and those of uvicorn and librdkafka
that arrive through it. Never a payload, never one event for each record or request.
"""

import logging
import sys
from typing import Any, Final

import structlog

from processor.config import Log

# Says something for every broken request that a client sends, and for each start and stop that we announce ourselves.
_QUIET: Final = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "asyncio")


def configure(log: Log, role: str) -> None:
    """`role` (ingest, worker, ...) stands in every event. May be called again: the last call wins."""
    level = logging.getLevelNamesMapping()[log.level.upper()]
    shared = _shared(role)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(log)],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _QUIET:
        quiet = logging.getLogger(name)
        quiet.handlers = []
        quiet.propagate = True
        quiet.setLevel(logging.ERROR if level > logging.DEBUG else level)


def _shared(role: str) -> list[Any]:
    def with_role(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
        return {"role": role, **event}

    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        with_role,
    ]


def _rendering(log: Log) -> list[Any]:
    """Tracebacks without the values of local variables: those may be a client's."""
    if log.format == "json":
        to_dict = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        return [structlog.processors.ExceptionRenderer(to_dict), structlog.processors.JSONRenderer()]
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]

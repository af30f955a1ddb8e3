"""LLM calls in, exact totals out: a Kafka stream processor for finished calls of the W&B Weave service API."""

__version__ = "0.1.0"

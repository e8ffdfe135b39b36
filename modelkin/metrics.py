"""What runs do, as Prometheus reads it: counters since the process started, and how the last run ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from modelkin.nightly import RunReport
from store.errors import StopError

if TYPE_CHECKING:
    from crawl.source import Source

__all__ = ["Metrics"]


class Metrics:
    """The metrics of one process that runs on a schedule, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._runs = self._counter("runs", "Runs by how they ended: done, failed or stopped.", "outcome")
        self._models = self._counter("models", "Models: seen, new, changed, removed or skipped.", "outcome")
        self._skipped = self._counter("skipped", "Rows of table skipped, by reason.", "reason")
        self._bytes = self._counter("read_bytes", "Bytes of weights read.")
        self._requests = self._counter("requests", "HTTP requests made.")
        self._edges = self._counter("edges", "Edges added or closed.", "change")
        self._seconds = self._counter("run_seconds", "Wall time of runs.", "part")
        self._running = self._gauge("run_in_progress", "1 while a run is going on.")
        self._asked = self._gauge("run_requests", "HTTP requests of the run that goes on, or of the last one.")
        self._ended = self._gauge("last_run_timestamp_seconds", "When the last run ended.")
        self._success = self._gauge("last_run_success", "1 when the last run came to its end.")
        self._due = self._gauge("next_run_timestamp_seconds", "When the next run is due.")
        self._held = self._gauge("graph", "What the graph holds: models, trees, edges, alone, inferred.", "kind")

    def _counter(self, name: str, says: str, *labels: str) -> Counter:
        return Counter(f"modelkin_{name}", says, labels, registry=self.registry)

    def _gauge(self, name: str, says: str, *labels: str) -> Gauge:
        return Gauge(f"modelkin_{name}", says, labels, registry=self.registry)

    @contextmanager
    def running(self, source: Source) -> Iterator[None]:
        """A run goes on as long as the context."""
        self._running.set(1)
        self._asked.set_function(lambda: source.requests)
        try:
            yield
        finally:
            made = source.requests
            self._asked.set_function(lambda: made)
            self._running.set(0)

    def ended(self, outcome: str, report: RunReport | None) -> None:
        """A run ended: `outcome` is done (with its report), failed or stopped."""
        self._runs.labels(outcome).inc()
        self._success.set(outcome == "done")
        self._ended.set_to_current_time()
        if report is None:
            return
        for kind in ("seen", "new", "changed", "removed", "skipped"):
            self._models.labels(kind).inc(getattr(report, f"models_{kind}"))
        for reason, count in report.skipped_reasons.items():
            self._skipped.labels(reason).inc(count)
        self._bytes.inc(report.bytes_read)
        self._requests.inc(report.requests)
        self._edges.labels("added").inc(report.edges_added)
        self._edges.labels("closed").inc(report.edges_closed)
        self._seconds.labels("crawl").inc(report.crawl_seconds)
        self._seconds.labels("update").inc(report.update_seconds)
        for kind in ("models", "trees", "edges", "alone", "inferred"):
            self._held.labels(kind).set(getattr(report, kind))

    def due(self, timestamp: float) -> None:
        """The next run is due then, in seconds since 1970."""
        self._due.set(timestamp)

    @contextmanager
    def serving(self, port: int, host: str) -> Iterator[str]:
        """Answer Prometheus on this port (0 takes a free one) as long as the context; gives the address.

        Raises StopError when the port cannot be had.
        """
        try:
            server, thread = start_http_server(port, host, self.registry)
        except OSError as error:
            raise StopError(
                f"metrics cannot be served on {host}:{port} ({error.strerror}): choose another --metrics-port"
            ) from error
        try:
            yield f"http://{host}:{server.server_port}/metrics"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

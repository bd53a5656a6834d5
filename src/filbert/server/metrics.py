"""What the server does, in numbers for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from filbert.server.measured import Measured
from filbert.server.offered import Offered

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
SPEEDS = (1, 3, 5, 10, 20, 40, 80, 160, 320, 640)
OTHER = "other"  # whatever is asked for and is not there: a stranger's words would be labels without end


class Metrics:
    """Of one server. remote: the other server that a model is on, "" for one that is here."""

    def __init__(self, offered: Offered) -> None:
        self._upstreams = offered.upstreams
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "filbert_requests", "Requests answered.", ("route", "status", "model", "remote"), registry=registry
        )
        self.prompt_tokens = Counter(
            "filbert_prompt_tokens", "Tokens of prompts.", ("model", "remote"), registry=registry
        )
        self.cached_tokens = Counter(
            "filbert_cached_tokens", "Tokens of prompts that were remembered.", ("model", "remote"), registry=registry
        )
        self.completion_tokens = Counter(
            "filbert_completion_tokens", "Tokens written.", ("model", "remote"), registry=registry
        )
        self.first_token = Histogram(
            "filbert_first_token_seconds",
            "Until the first token.",
            ("model", "remote"),
            buckets=SECONDS,
            registry=registry,
        )
        self.duration = Histogram(
            "filbert_request_seconds",
            "Whole requests.",
            ("route", "model", "remote"),
            buckets=SECONDS,
            registry=registry,
        )
        self.speed = Histogram(
            "filbert_tokens_per_second",
            "Of an answer's tokens.",
            ("model", "remote"),
            buckets=SPEEDS,
            registry=registry,
        )
        registry.register(_Models(offered))

    def count(self, route: str, status: int, seconds: float, measured: Measured) -> None:
        model = (measured.model or OTHER, self._upstreams.server_of(measured.model))
        self.requests.labels(route, str(status), *model).inc()
        self.duration.labels(route, *model).observe(seconds)
        self.prompt_tokens.labels(*model).inc(measured.prompt_tokens)
        self.cached_tokens.labels(*model).inc(measured.cached_tokens)
        self.completion_tokens.labels(*model).inc(measured.completion_tokens)
        if measured.first_s is not None:
            self.first_token.labels(*model).observe(measured.first_s)
        if measured.generation_ms:
            self.speed.labels(*model).observe(1000 * measured.completion_tokens / measured.generation_ms)

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Models(Collector):
    """What is true now, asked of the pool and of what is known of other servers."""

    def __init__(self, offered: Offered) -> None:
        self._pool, self._upstreams = offered.pool, offered.upstreams

    def collect(self) -> Iterator[Metric]:
        memory = GaugeMetricFamily("filbert_model_memory_bytes", "Memory of a loaded model.", labels=["model"])
        running = GaugeMetricFamily("filbert_running", "Answers under way.", labels=["model"])
        waiting = GaugeMetricFamily("filbert_waiting", "Requests that wait for their turn.", labels=["model"])
        for loaded in self._pool.loaded():
            n_running, n_waiting = loaded.model.children.counts
            memory.add_metric([loaded.model.name], loaded.size_bytes)
            running.add_metric([loaded.model.name], n_running)
            waiting.add_metric([loaded.model.name], n_waiting)
        yield from (memory, running, waiting)
        up = GaugeMetricFamily("filbert_remote_up", "Whether another server can be asked.", labels=["remote"])
        asked = GaugeMetricFamily("filbert_remote_running", "Its answers under way.", labels=["remote"])
        held = GaugeMetricFamily("filbert_remote_waiting", "Requests that wait for it.", labels=["remote"])
        for each in self._upstreams.all:
            n_running, n_waiting = each.admission.counts
            up.add_metric([each.name], not each.trouble)
            asked.add_metric([each.name], n_running)
            held.add_metric([each.name], n_waiting)
        yield from (up, asked, held)

"""What the service counts, in the form that Prometheus reads."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from serve.engine.answer_queue import AnswerQueue
from serve.http.routes import API

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The numbers of one service; final. Threads may share it."""

    def __init__(self, queue: AnswerQueue):
        self._queue = queue
        # of its own: the global one would refuse the same names a second time in one process
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "zootune_requests",
            "Requests by route and status.",
            ["route", "status"],
            registry=self._registry,
        )
        self._latency = Histogram(
            "zootune_request_seconds",
            "Seconds from the head of a request to its whole answer.",
            ["route"],
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        self._rejections = Counter(
            "zootune_rejections", "Requests that were refused.", ["reason"], registry=self._registry
        )
        self._reloads = Counter(
            "zootune_reloads",
            "New bundles: swapped in or refused.",
            ["result"],
            registry=self._registry,
        )
        # counted in the decoders, so that it is read when somebody asks
        self._registry.register(_EndedDecoders(queue))
        Gauge(
            "zootune_queue", "Pictures that wait or are being answered.", registry=self._registry
        ).set_function(lambda: queue.outstanding)
        Gauge("zootune_queue_capacity", "At most so many.", registry=self._registry).set(
            queue.capacity
        )
        self._model = Gauge(
            "zootune_model",
            "1 for the model that answers; its sha256 is a label.",
            ["name", "digest"],
            registry=self._registry,
        )

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        route = "page"  # of the page, all together
        # a label of any path that a stranger asks for would grow without end
        if path in API:
            route = path
        self._requests.labels(route, str(status)).inc()
        self._latency.labels(route).observe(seconds)

    def rejected(self, reason: str) -> None:
        """Count a refusal: queue, deadline, body, picture, auth, host, draining."""
        self._rejections.labels(reason).inc()

    def reloaded(self, result: str) -> None:
        """Count a new bundle: swapped or refused."""
        self._reloads.labels(result).inc()

    def text(self) -> bytes:
        """All numbers in Prometheus' text format."""
        model = self._queue.model
        # of the model that was swapped out no line is to stay
        self._model.clear()
        self._model.labels(model.name, model.digest).set(1)
        return generate_latest(self._registry)


class _EndedDecoders(Collector):
    """How many decoder processes a picture brought to their end; final."""

    def __init__(self, queue: AnswerQueue):
        self._queue = queue

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(
            "zootune_decoders_ended",
            "Decoder processes that a picture brought to their end: "
            "killed after --decode-s, or died of memory or a crash.",
            labels=["reason"],
        )
        for reason, count in self._queue.decoders.ended.items():
            family.add_metric([reason], count)
        yield family

"""What an adapter tells Prometheus. Labels are outcomes, reasons and attributes' names; none comes from a subject."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from adapters.frame import FrameProcessor
from adapters.standpoint import Standpoints
from audit.store import LogStore
from zhiwang.wire.metrics import REGISTRY
from zhiwang.wire.records import Outcome


class AdapterMetrics(Collector):
    """Reads the counts that the parts keep, whenever it is asked: nothing on the way of a request.

    Args:
        frames: Counts outcomes and refusals.
        log: The owner's log.
        links: Gives the number of hubs that the adapter is attached to.
        standpoints: Knows which probes fail.
    """

    def __init__(
        self,
        frames: FrameProcessor,
        log: LogStore,
        links: Callable[[], int],
        standpoints: Standpoints,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._frames = frames
        self._log = log
        self._links = links
        self._standpoints = standpoints
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Everything, at this moment."""
        answers = CounterMetricFamily("zhiwang_adapter_claims", "Claims settled, by outcome", labels=["outcome"])
        for outcome, number in list(self._frames.outcomes.items()):
            answers.add_metric([Outcome(outcome).name], number)
        yield answers
        refused = CounterMetricFamily("zhiwang_adapter_refused", "Requests refused as a whole", labels=["reason"])
        for reason, number in list(self._frames.refused.items()):
            refused.add_metric([reason.name], number)
        yield refused
        failing = GaugeMetricFamily(
            "zhiwang_adapter_probe_failing", "Attributes whose probe fails", labels=["attribute"]
        )
        for attribute in self._standpoints.failing:
            failing.add_metric([attribute], 1)
        yield failing
        drifted = GaugeMetricFamily(
            "zhiwang_adapter_columns_changed", "Attributes closed for changed columns", labels=["attribute"]
        )
        for attribute in self._standpoints.drifted:
            drifted.add_metric([attribute], 1)
        yield drifted
        yield GaugeMetricFamily("zhiwang_adapter_links", "Hubs that the adapter is attached to", value=self._links())
        yield GaugeMetricFamily("zhiwang_adapter_log_size", "Entries of the owner's log", value=self._log.newest.size)

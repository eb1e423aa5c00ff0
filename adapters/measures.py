"""What an adapter tells Prometheus. Labels are outcomes, reasons, attributes, departments; none comes from a subject.

No number moves with what one request was answered: YES, NO and UNKNOWN are counted as one, and their shares are told of
full windows. Otherwise whoever scrapes before and after a request would read its answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from collections.abc import Mapping as Dictionary

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from adapters.answers import ANSWERS, AnswerWatch
from adapters.frame import FrameProcessor
from adapters.standpoint import Standpoints
from audit.store import LogStore
from audit.yearly import YearlyLog
from zhiwang.wire.metrics import REGISTRY
from zhiwang.wire.records import Outcome


class AdapterMetrics(Collector):
    """Reads the counts that the parts keep, whenever it is asked: nothing on the way of a request.

    Args:
        frames: Counts outcomes and refusals.
        log: The owner's log.
        links: Gives the number of hubs that the adapter is attached to.
        standpoints: Knows which probes fail.
        answers: Knows their shares.
        local: Gives the number of files that stand beside the directory.
    """

    def __init__(
        self,
        frames: FrameProcessor,
        log: YearlyLog | LogStore,
        links: Callable[[], int],
        standpoints: Standpoints,
        answers: AnswerWatch,
        registry: CollectorRegistry = REGISTRY,
        *,
        local: Callable[[], int] = lambda: 0,
    ) -> None:
        self._local = local
        self._frames = frames
        self._log = log
        self._links = links
        self._standpoints = standpoints
        self._answers = answers
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Everything, at this moment."""
        answers = CounterMetricFamily("zhiwang_adapter_claims", "Claims settled, by outcome", labels=["outcome"])
        for outcome, number in sorted(told_apart(self._frames.outcomes).items()):
            answers.add_metric([outcome], number)
        yield answers
        yield from self._watched()
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
        yield GaugeMetricFamily(
            "zhiwang_adapter_local_policy", "Files that stand beside the directory", value=self._local()
        )
        yield GaugeMetricFamily("zhiwang_adapter_log_size", "Entries of the owner's log", value=self._log.newest.size)

    def _watched(self) -> Iterator[Metric]:
        labels = ["attribute", "predicate", "department"]
        shares = GaugeMetricFamily(
            "zhiwang_adapter_answer_share", "Share of an answer in the last full window", labels=[*labels, "answer"]
        )
        for key, window in list(self._answers.shares.items()):
            for answer, share in zip(ANSWERS, window, strict=True):
                shares.add_metric([*key, answer.name], share)
        yield shares
        for name, text, keys in (
            ("outside", "Answers whose shares are out of band", self._answers.outside),
            ("suspended", "Answers that are suspended for their shares", self._answers.suspended),
        ):
            gauge = GaugeMetricFamily(f"zhiwang_adapter_answers_{name}", text, labels=labels)
            for key in sorted(keys):
                gauge.add_metric(list(key), 1)
            yield gauge


def told_apart(outcomes: Dictionary[int, int]) -> dict[str, int]:
    """Counts by what may be told of one request: that it was answered, but not what."""
    counts: Counter[str] = Counter()
    for outcome, number in list(outcomes.items()):
        counts["ANSWERED" if outcome in ANSWERS else Outcome(outcome).name] += number
    return counts

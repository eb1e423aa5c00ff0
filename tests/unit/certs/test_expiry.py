from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from certs.expiry import DAY, METRIC, METRIC_TEXT, Expiry, ExpiryAlarms, certificate_expiries
from certs_support import City
from zhiwang.wire.metrics import gauge

START = 1_800_000_000.0


@dataclass
class Watch:
    """Alarms over things that a test changes, at a time that it sets."""

    things: list[Expiry]
    now: float = START
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        self.alarms = ExpiryAlarms(
            lambda: self.things, lambda: self.now, gauge(METRIC, METRIC_TEXT, ("use",), registry=self.registry)
        )

    def told(self) -> list[tuple[str, str, float]]:
        with capture_logs() as lines:
            self.alarms.look()
        return [(line["log_level"], line["event"], line["days_left"]) for line in lines]

    def metric(self, use: str) -> float | None:
        return self.registry.get_sample_value(METRIC, {"use": use})


def thing(days: float, **more: object) -> Expiry:
    return replace(Expiry("auth", "auth.pem of edu/agent/one", START + days * DAY, "zhiwang certs renew DIR"), **more)  # type: ignore[arg-type]  # fields


def test_alarms_come_thirty_seven_and_one_days_ahead_and_when_it_is_over() -> None:
    watch = Watch([thing(40)])
    found = {}
    for hour in range(24 * 42):
        watch.now = START + hour * 3600
        for level, event, left in watch.told():
            found[left] = (level, event)
    levels = [found[left] for left in sorted(found, reverse=True)]
    assert sorted(found, reverse=True) == [float(day) for day in range(30, -2, -1)]
    assert levels[:29] == [("warning", "expires soon")] * 29
    assert levels[29:] == [("error", "expires soon"), ("error", "has expired"), ("error", "has expired")]


def test_each_thing_is_told_of_once_a_day_however_often_is_looked() -> None:
    watch = Watch([thing(5), thing(5, what="signing.pem")])
    assert len(watch.told()) == 2
    for minute in range(1, 24 * 60):
        watch.now = START + minute * 60
        assert not watch.told()
    watch.now = START + DAY
    assert len(watch.told()) == 2


def test_a_threshold_that_is_passed_is_told_at_once_although_something_was_told_today() -> None:
    watch = Watch([thing(7.5)])
    assert len(watch.told()) == 1
    watch.now += 0.6 * DAY
    assert len(watch.told()) == 1


def test_what_was_renewed_is_told_of_no_more_and_anew_when_its_time_comes() -> None:
    watch = Watch([thing(0.5)])
    assert watch.told() == [("error", "expires soon", 0.5)]
    watch.things = [thing(365)]
    assert not watch.told()
    assert watch.metric("auth") == START + 365 * DAY
    watch.now = START + 364.5 * DAY
    assert watch.told() == [("error", "expires soon", 0.5)]


@pytest.mark.parametrize(("life", "first"), [(365.0, 30.0), (60.0, 30.0), (30.0, 7.0), (10.0, 1.0), (1.0, 0.25)])
def test_no_alarm_falls_into_the_first_half_of_a_life(life: float, first: float) -> None:
    one = thing(life, life=life)
    assert one.alarm(START) is None
    assert one.alarm(START + (life - first) * DAY - 60) is None
    assert one.alarm(START + (life - first) * DAY + 60) == first


def test_the_metric_tells_the_earliest_of_each_use() -> None:
    watch = Watch([thing(90), thing(50), thing(70, use="crl")])
    assert not watch.told()
    assert (watch.metric("auth"), watch.metric("crl")) == (START + 50 * DAY, START + 70 * DAY)


def test_a_process_is_told_of_both_its_certificates_and_the_authoritys(tmp_path: Path) -> None:
    city = City.create(tmp_path)
    files = city.enrol("data/hub/main", days=20)
    expiries = certificate_expiries(files)
    assert [one.use for one in expiries] == ["auth", "signing", "ca"]
    assert [one.life for one in expiries[:2]] == [pytest.approx(20, abs=0.01)] * 2
    assert min(one.time for one in expiries) == files.expires
    assert all(str(files.directory) in one.remedy for one in expiries[:2])

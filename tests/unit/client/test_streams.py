"""Streams of cases are bounded, for all callers together and for each."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from exchange.client.streams import MAX_STREAMS, MAX_STREAMS_EACH, OpenStreams
from zhiwang.wire.errors import Reason, RefusedError


def test_one_caller_has_its_share_and_no_more_and_another_has_its_own() -> None:
    streams = OpenStreams()
    with ExitStack() as stack:
        for _ in range(MAX_STREAMS_EACH):
            stack.enter_context(streams.hold("one"))
        with pytest.raises(RefusedError) as caught, streams.hold("one"):
            pass
        assert caught.value.reason is Reason.TOO_MANY_STREAMS
        assert caught.value.reason.status == "RESOURCE_EXHAUSTED"
        with streams.hold("another"):
            assert streams.count == MAX_STREAMS_EACH + 1
    assert streams.count == 0


def test_all_callers_together_have_no_more_than_there_are() -> None:
    streams = OpenStreams()
    with ExitStack() as stack:
        for number in range(MAX_STREAMS):
            stack.enter_context(streams.hold(f"caller {number}"))
        with pytest.raises(RefusedError) as caught, streams.hold("one more"):
            pass
        assert caught.value.reason is Reason.TOO_MANY_STREAMS
    with streams.hold("one more"):
        pass


def test_a_stream_that_fails_is_open_no_longer() -> None:
    streams = OpenStreams()
    with pytest.raises(ZeroDivisionError), streams.hold("one"):
        _ = 1 // 0
    assert streams.count == 0

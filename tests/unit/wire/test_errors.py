from __future__ import annotations

import grpc
import pytest

from wire_support import script
from zhiwang.wire.errors import Reason, RefusedError, ZhiwangError


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_grpc_status_and_both_texts(reason: Reason) -> None:
    assert reason.status in grpc.StatusCode.__members__
    assert reason.status != "OK"
    assert reason.value.zh
    assert not reason.value.zh.isascii()
    assert reason.value.en.isascii()
    assert reason.value.en.endswith(".") or reason.value.en.endswith("?")


def test_no_two_reasons_are_one() -> None:
    # Members of equal meaning would be aliases of one another.
    assert len(Reason.__members__) == len(list(Reason))
    assert len({reason.value.zh for reason in Reason}) == len(list(Reason))


def test_an_error_says_its_reason_and_keeps_the_detail_apart() -> None:
    error = RefusedError(Reason.NOT_GRANTED, "no rule matches", field="claims[0]")
    assert isinstance(error, ZhiwangError)
    assert (error.reason, error.detail, error.field, error.metadata) == (
        Reason.NOT_GRANTED,
        "no rule matches",
        "claims[0]",
        {},
    )
    assert str(error) == "NOT_GRANTED: no rule matches"
    assert str(RefusedError(Reason.NOT_GRANTED)) == "NOT_GRANTED"


def test_the_page_of_reasons_is_made_from_the_catalogue() -> None:
    maker = script("make_error_docs")
    assert maker.PAGE.read_text(encoding="utf-8") == maker.page()

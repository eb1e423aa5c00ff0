"""Probes go on whatever a newer document lets go of."""

from __future__ import annotations

from pathlib import Path

from adapter_support import ANNA, SCHEMES, Owner, attribute
from adapters.probes import Probes, failing_of
from adapters.sql import Source

MAPPING = f"""
[data.person]
table = "person"
subject = "id_card"

[attribute.gone]
data = "person"

[attribute.card]
data = "person"

[[probe]]
claim = "hrss.gone exists"
subject = "{ANNA}"
answer = "YES"

[[probe]]
claim = "hrss.card exists"
subject = "{ANNA}"
answer = "UNKNOWN"
"""


def test_a_probe_of_an_attribute_that_is_published_no_longer_does_not_end_the_others(tmp_path: Path) -> None:
    owner = Owner(
        tmp_path,
        tables="CREATE TABLE person (id_card TEXT);",
        rows={"person": [(ANNA,)]},
        mapping=MAPPING,
        published=attribute("gone", 'asks = ["exists"]') + attribute("card", 'asks = ["exists"]'),
    )
    attributes = {name: one for name, one in owner.document.attributes.items() if name != "gone"}
    source = Source(owner.connections, owner.mapping, attributes, clock=lambda: owner.now)
    # The second one fails, and is found to.
    assert "card" in failing_of(Probes(source, SCHEMES, lambda: owner.now).run())
    owner.close()

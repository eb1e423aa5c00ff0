"""directory_verify, directory_load, directory_swap, directory_change: a signed directory of up to 10,000 rules.

A real directory: eight departments that publish documents signed by two admins each, twelve matters, a registrar. A
reader takes it in as hub, adapters and agents do; what comes over the network is handed to it from memory. Beside each
step stands the least that could do the same. CPU time, since the machine has other things to do.

- verify: a reader that knows nothing but the root fetches, verifies and writes down everything, parsed before.
- load: the verified files become documents, and every enforcer of every attribute and matter is built.
- swap: the new directory is put in force in place of the old one.
- change: one department has published; a reader takes it in and puts it in force, all three steps together.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tuf.api.metadata import Metadata

import policy_support as support
from bench.policy import ATTRIBUTES, MATTERS, OWNERS, ROLES, RULES
from bench.result import Result
from policy import assemble
from policy.directory import DirectoryHolder
from policy.enforcer import Enforcer
from policy.model import Directory
from policy_support import DirectoryKit
from zhiwang.wire.errors import Reason, RefusedError

SIZES: Final = (10, 100, 1_000, RULES)
ROUNDS: Final = 5
CHANGE_SECONDS: Final = 1.0
"""Half of the two seconds in which a change is in force everywhere; the rest is the registrar's and the wire's."""

Files = Mapping[str, bytes]


def _centre() -> str:
    members = "".join(
        f'[department.{name}]\ntitle = {{ zh = "局", en = "Owner" }}\nhome = "nbs:4403"\n' for name in _owners()
    )
    return (
        'city = "shenzhen"\n[subject]\nperson = "resident"\n'
        '[department.edu]\ntitle = { zh = "教育局", en = "Education" }\n'
        'home = "nbs:4403"\nsystem.enrolment.home = "nbs:4403"\n' + members
    )


def _owners() -> list[str]:
    return [f"owner{number}" for number in range(OWNERS)]


def _matter(name: str) -> str:
    return (
        f'matter = "{name}"\ntitle = {{ zh = "事项", en = "Matter" }}\nbasis = "rules"\nrequesters = ["edu"]\n'
        'reference_date = "today"\n[slots]\nchild = "person"\n'
    )


def _document(owner: str, grants: int, chance: random.Random) -> str:
    text = f'department = "{owner}"\ntitle = {{ zh = "局", en = "Owner" }}\n'
    for number in range(ATTRIBUTES):
        text += f'\n[attribute.a{number}]\ntitle = {{ zh = "是否？", en = "Whether?" }}\nsubject = "person"\n'
        text += 'asks = ["exists"]\n'
    for number in range(grants):
        text += (
            f'\n[[grant]]\nid = "g{number}"\nrole = "{chance.choice(ROLES)}"\n'
            f'ask = "{owner}.a{chance.randrange(ATTRIBUTES)} exists"\nmatter = "m{chance.randrange(MATTERS)}"\n'
            f'place = "nbs:4403{chance.randrange(3, 12):02}"\nlevel = "community"\nnot_after = 2099-01-01\n'
        )
    return text


def _kit(rules: int, path: Path) -> tuple[DirectoryKit, str]:
    """A directory with so many rules, and the first owner's document."""
    chance = random.Random(1)  # noqa: S311  a repeatable choice of rules, no secret
    shares = [rules // OWNERS + (place < rules % OWNERS) for place in range(OWNERS)]
    documents = {name: _document(name, share, chance) for name, share in zip(_owners(), shares, strict=True)}
    roles = ", ".join(f'"{role.partition("/")[2]}"' for role in ROLES)
    documents["edu"] = (
        f'department = "edu"\ntitle = {{ zh = "教育局", en = "Education" }}\nsystem.enrolment.roles = [{roles}]\n'
    )
    matters = {f"m{number}": _matter(f"m{number}") for number in range(MATTERS)}
    members = ("edu", *_owners())
    kit = support.make_directory(path, centre=_centre(), documents=documents, matters=matters, members=members)
    return kit, documents[_owners()[0]]


def _fetch(files: Files) -> Callable[[str], bytes]:
    def fetch(path: str) -> bytes:
        if path not in files:
            raise RefusedError(Reason.FILE_UNKNOWN, path)
        return files[path]

    return fetch


def _forget() -> None:
    """What was parsed is parsed again."""
    for cache in (assemble._centre, assemble._matter, assemble.parse_document_bytes, assemble._suspended):  # noqa: SLF001 # nobody else has to forget
        cache.cache_clear()


def _cpu(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _build(directory: Directory) -> Enforcer:
    """Every enforcer that the directory can need."""
    enforcer = Enforcer(directory)
    for document in directory.documents.values():
        for attribute in document.attributes.values():
            for matter in directory.matters:
                enforcer._rules_of(attribute, matter)  # noqa: SLF001 # otherwise each is built when it is first asked
    return enforcer


def _check_by_hand(files: Files) -> None:
    """The hashes and signatures that there are, and nothing else."""
    key = Ed25519PrivateKey.generate()
    signature, public = key.sign(b""), key.public_key()
    for path, content in files.items():
        sha256(content).digest()
        if path.startswith("metadata/"):
            for _ in Metadata.from_bytes(content).signatures:
                public.verify(signature, b"")


def _parse_by_hand(files: Files) -> None:
    for path, content in files.items():
        if path.endswith(".toml"):
            tomllib.loads(content.decode())


def _measure(rules: int, place: Path) -> list[Result]:
    kit, document = _kit(rules, place)
    before = dict(kit.repository.files)
    after_kit = kit.copy(place / "changed")
    after_kit.publish(document.replace('level = "community"', 'level = "street"', 1))
    after = dict(after_kit.repository.files)
    taken: dict[str, list[float]] = {
        name: [] for name in ("verify", "load", "swap", "change", "hand", "parse", "group")
    }
    for turn in range(ROUNDS):
        taken["hand"].append(_cpu(lambda: _check_by_hand(before)))
        taken["parse"].append(_cpu(lambda: _parse_by_hand(before)))
        _forget()
        reader = kit.client(place / f"reader-{turn}", fetch=_fetch(before))
        directory = reader.refresh()  # and everything is parsed now
        again = kit.client(place / f"again-{turn}", fetch=_fetch(before))
        verified = _cpu(again.refresh)
        taken["verify"].append(verified)
        _forget()
        once_more = kit.client(place / f"once-more-{turn}", fetch=_fetch(before))
        taken["load"].append(_cpu(lambda client=once_more: _build(client.refresh())) - verified)  # type: ignore[misc] # a default binds it
        holder = DirectoryHolder()
        holder.set(directory)
        taken["group"].append(_cpu(lambda found=directory: Enforcer(found)))  # type: ignore[misc] # a default binds it
        taken["swap"].append(_cpu(lambda found=directory, holder=holder: holder.set(found)))  # type: ignore[misc] # the same
        # The same reader, whose caches know the old files and not the new one.
        reader._fetch = _fetch(after)  # noqa: SLF001 # what a channel does when the registrar has published
        taken["change"].append(_cpu(lambda client=reader, holder=holder: holder.set(client.refresh())))  # type: ignore[misc] # the same
        if holder.current.version != directory.version + 1:
            raise RuntimeError("the change is not in force")
    middle = {name: statistics.median(values) * 1000 for name, values in taken.items()}
    suffix = "" if rules == RULES else f"_{rules}"
    limit = CHANGE_SECONDS * 1000
    baselines = {"verify": middle["hand"], "load": middle["parse"], "swap": middle["group"], "change": middle["parse"]}
    return [
        Result(
            f"directory_{name}{suffix}",
            middle[name],
            "ms of CPU",
            baseline,
            middle[name] / baseline,
            f"under {limit:,.0f} ms" if name == "change" else "",
            middle[name] < limit if name == "change" else None,
        )
        for name, baseline in baselines.items()
    ]


async def measure() -> list[Result]:
    """Take a directory in, at each number of rules."""
    # One line for each publication and each directory in force would be in the way of the table.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    results = []
    try:
        for rules in SIZES:
            with tempfile.TemporaryDirectory(prefix="zhiwang-bench-") as place:
                results += _measure(rules, Path(place))
    finally:
        structlog.reset_defaults()
    return results

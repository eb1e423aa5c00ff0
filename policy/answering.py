"""What PolicyService answers, worked out in a process of its own (`working.py`): from request to response.

The directory in force comes as the server has it, once for each version; older ones are read from the archive and
verified from the pinned root on. Files that nobody has signed are only looked at. Nothing is written.
"""

from __future__ import annotations

import pickle
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from policy import telling
from policy.archive import Archive
from policy.checking import check
from policy.comparing import Comparison, compare
from policy.directory import Fetch
from policy.document import ASSURANCES
from policy.enforcer import Question
from policy.findings import findings_metadata
from policy.history import History
from policy.model import Directory
from policy.publishing import Named
from policy.rehearse import rehearsed
from zhiwang.policy.v1 import policy_pb2, rehearsal_pb2, rights_pb2
from zhiwang.wire.claims import Ask
from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.identity import Identity
from zhiwang.wire.places import Jurisdiction
from zhiwang.wire.tomlfile import FileError

DEFAULT_PAGE: Final = 200
MAX_PAGE: Final = 1000
MAX_PAGE_BYTES: Final = 2 << 20
REMEMBERED: Final = 2
"""Directories of each kind, and lists of which pages were asked for, that a process keeps."""

_TOKEN: Final = struct.Struct(">4sdQ16s")
_MAGIC: Final = b"zwp1"

Items = list[tuple[str, Message]]
"""Messages with the field of the response that they go to, in the order in which they are paged."""


class Sources(NamedTuple):
    """Where directories come from.

    Attributes:
        key: SHA-256 of the directory in force as `take` gets it.
        archive: Directory of what was published; empty if nothing is kept.
        root_json: The pinned root, by which what is kept is verified.
    """

    key: bytes
    archive: str
    root_json: bytes


class _Kept(OrderedDict[Any, Any]):
    """The last few values, each made once."""

    def get_or_make(self, key: object, make: Callable[[], Any]) -> Any:
        """What is kept under a key, made if it is not."""
        if key not in self:
            self[key] = make()
            while len(self) > REMEMBERED:
                self.popitem(last=False)
        self.move_to_end(key)
        return self[key]


_current = _Kept()
_past = _Kept()
_lists = _Kept()


def knows(_session: object, key: bytes) -> bool:
    """Whether this process has the directory in force."""
    return key in _current


def take(_session: object, key: bytes, pickled: bytes) -> None:
    """Take up the directory in force."""
    _current.get_or_make(key, lambda: pickle.loads(pickled))  # noqa: S301 - our own server's


def answer(_session: object, method: str, data: bytes, sources: Sources, now: float) -> bytes:
    """The response to a request of PolicyService, both as bytes.

    Raises:
        RefusedError: As `directory_of`; NAME_UNKNOWN, PAGE_TOKEN_INVALID, and whatever is wrong with the request.
    """
    kind, work = _METHODS[method]
    request = kind.FromString(data)
    response: bytes = work(request, sources, now).SerializeToString()
    return response


def base_of(standpoint: rights_pb2.Standpoint, sources: Sources, field: str) -> Directory:
    """The directory from which one looks, without files.

    Raises:
        RefusedError: NAME_UNKNOWN: the version is not kept. Others, if what is kept does not verify.
    """
    current: Directory = _current[sources.key]
    version = standpoint.directory_version
    if version in {0, current.version}:
        return current
    try:
        return past_of(sources, version)
    except RefusedError as error:
        if error.reason is not Reason.FILE_UNKNOWN:
            raise
        detail = f"directory {version} is not kept"
        raise RefusedError(Reason.NAME_UNKNOWN, detail, field=f"{field}.directory_version") from None


def past_of(sources: Sources, version: int) -> Directory:
    """A directory that was in force, verified.

    Raises:
        RefusedError: As `History.whole`.
    """
    history = History(sources.root_json, fetch_from(sources))
    found: Directory = _past.get_or_make((sources.archive, version), lambda: history.whole(version))
    return found


def fetch_from(sources: Sources) -> Fetch:
    """Gives what is kept of what was published."""
    archive = Archive(Path(sources.archive)) if sources.archive else None

    def fetch(path: str) -> bytes:
        content = None if archive is None else archive.read(path)
        if content is None:
            raise RefusedError(Reason.FILE_UNKNOWN, path)
        return content

    return fetch


def directory_of(standpoint: rights_pb2.Standpoint, sources: Sources, field: str = "standpoint") -> Directory:
    """The directory from which one looks, as it would be with the files.

    Raises:
        RefusedError: As `base_of`; DOCUMENT_INVALID, with what is wrong with the files; METADATA_INVALID: one stands
            twice.
    """
    base = base_of(standpoint, sources, field)
    if not standpoint.files and not standpoint.removed_matters:
        return base
    try:
        return rehearsed(base, _named(standpoint), removed=standpoint.removed_matters)
    except FileError as error:
        lines = [str(finding) for finding in error.findings]
        raise RefusedError(
            Reason.DOCUMENT_INVALID, "files to look at", field=f"{field}.files", metadata=findings_metadata(lines)
        ) from None


def _named(standpoint: rights_pb2.Standpoint) -> list[Named]:
    return [Named(file.name, file.content) for file in standpoint.files]


def _explain(request: policy_pb2.ExplainRequest, sources: Sources, now: float) -> Message:
    ask = Ask.parse(request.ask)
    assurance = ASSURANCES.get(request.assurance or "asserted")
    if assurance is None:
        raise RefusedError(Reason.REQUEST_MALFORMED, "no such assurance", field="assurance")
    try:
        system = Identity.parse(request.system)
    except RefusedError as error:
        # Its reason is about a caller's certificate, and this is a name in a question.
        raise RefusedError(Reason.REQUEST_MALFORMED, error.detail, field="system") from None
    question = Question(
        system=system,
        role=request.role,
        owner=ask.owner,
        attribute=ask.attribute,
        predicate=ask.predicate,
        jurisdiction=Jurisdiction.parse(request.jurisdiction),
        matter=request.matter,
        assurance=assurance,
        now=_time(request, now),
        official=request.official,
    )
    return telling.explained(directory_of(request.standpoint, sources), question)


def _list_attributes(request: rights_pb2.ListAttributesRequest, sources: Sources, now: float) -> Message:
    def items(_at: float) -> Items:
        return _in("attributes", telling.attributes(directory_of(request.standpoint, sources), request.owner))

    response = rights_pb2.ListAttributesResponse(directory_version=_version(request.standpoint, sources))
    return _paged(request, response, sources, now, items)


def _list_grants(request: rights_pb2.ListGrantsRequest, sources: Sources, now: float) -> Message:
    def items(_at: float) -> Items:
        directory = directory_of(request.standpoint, sources)
        return [
            *_in("grants", telling.grants(directory, request.owner)),
            *_in("emergencies", telling.emergencies(directory, request.owner)),
        ]

    response = rights_pb2.ListGrantsResponse(directory_version=_version(request.standpoint, sources))
    return _paged(request, response, sources, now, items)


def _who_can(request: rights_pb2.WhoCanRequest, sources: Sources, now: float) -> Message:
    def items(at: float) -> Items:
        found = telling.who_can(
            directory_of(request.standpoint, sources),
            request.attribute,
            _time(request, at),
            predicate=request.predicate,
            matter=request.matter,
            jurisdiction=request.jurisdiction,
        )
        return _fields(found)

    response = rights_pb2.WhoCanResponse(directory_version=_version(request.standpoint, sources))
    return _paged(request, response, sources, now, items)


def _what_can(request: rights_pb2.WhatCanRequest, sources: Sources, now: float) -> Message:
    def items(at: float) -> Items:
        directory = directory_of(request.standpoint, sources)
        return _fields(telling.what_can(directory, request.who, _time(request, at)))

    response = rights_pb2.WhatCanResponse(directory_version=_version(request.standpoint, sources))
    return _paged(request, response, sources, now, items)


def _compare(request: rehearsal_pb2.CompareRequest, sources: Sources, now: float) -> Message:
    def items(at: float) -> Items:
        before = directory_of(request.before, sources, "before")
        return _fields(compare(before, directory_of(request.after, sources, "after"), at))

    response = rehearsal_pb2.CompareResponse(
        before_version=_version(request.before, sources, "before"),
        after_version=_version(request.after, sources, "after"),
    )
    return _paged(request, response, sources, now, items)


def _check(request: rehearsal_pb2.CheckRequest, sources: Sources, now: float) -> Message:
    def items(at: float) -> Items:
        base = base_of(request.standpoint, sources, "standpoint")
        found = check(base, _named(request.standpoint), at, removed=request.standpoint.removed_matters)
        return _in("findings", (judged.message() for judged in found))

    response = rehearsal_pb2.CheckResponse(directory_version=_version(request.standpoint, sources))
    return _paged(request, response, sources, now, items)


_METHODS: Final[Mapping[str, tuple[Any, Callable[[Any, Sources, float], Message]]]] = {
    "Explain": (policy_pb2.ExplainRequest, _explain),
    "ListAttributes": (rights_pb2.ListAttributesRequest, _list_attributes),
    "ListGrants": (rights_pb2.ListGrantsRequest, _list_grants),
    "WhoCan": (rights_pb2.WhoCanRequest, _who_can),
    "WhatCan": (rights_pb2.WhatCanRequest, _what_can),
    "Compare": (rehearsal_pb2.CompareRequest, _compare),
    "Check": (rehearsal_pb2.CheckRequest, _check),
}


def _in(field: str, messages: Iterable[Message]) -> Items:
    return [(field, message) for message in messages]


def _fields(found: telling.Told | Comparison) -> Items:
    """Of a result whose parts are called as the response's fields."""
    return [item for field, messages in found._asdict().items() for item in _in(field, messages)]


def _version(standpoint: rights_pb2.Standpoint, sources: Sources, field: str = "standpoint") -> int:
    return base_of(standpoint, sources, field).version


def _time(request: Any, now: float) -> float:
    if not request.HasField("time"):
        return now
    time: Timestamp = request.time
    return time.seconds + time.nanos / 1e9


# Pages ---------------------------------------------------------------------------------------------------------------


def _paged(request: Any, response: Any, sources: Sources, now: float, make: Callable[[float], Items]) -> Message:
    """A page of a list, and the token of the next.

    A token says where the next page begins and at which time the first was asked for, and carries a hash of question
    and version in force: for another question, or under another version, it is none. It gives nobody anything that the
    question does not, so it need not be secret, and every replica of a hub takes it.
    """
    if request.page_size < 0:
        raise RefusedError(Reason.REQUEST_MALFORMED, "a negative page size", field="page_size")
    token = request.page_token
    bare = type(request)()
    bare.CopyFrom(request)
    bare.ClearField("page_size")
    bare.ClearField("page_token")
    current: Directory = _current[sources.key]
    question = bare.SerializeToString(deterministic=True)
    asked = b"\n".join((bare.DESCRIPTOR.full_name.encode(), str(current.version).encode(), question))
    digest = sha256(asked).digest()[:16]
    at, start = _read_token(token, digest, now) if token else (now, 0)
    items: Items = _lists.get_or_make((digest, at), lambda: make(at)) if token else make(at)
    if token and not 0 < start < len(items):
        raise RefusedError(Reason.PAGE_TOKEN_INVALID, field="page_token")
    end, size = start, 0
    most = min(len(items), start + min(request.page_size or DEFAULT_PAGE, MAX_PAGE))
    while end < most:
        field, message = items[end]
        size += message.ByteSize()
        if end > start and size > MAX_PAGE_BYTES:
            break
        getattr(response, field).append(message)
        end += 1
    if end < len(items):
        # Only what is asked for on is remembered.
        _lists.get_or_make((digest, at), lambda: items)
        packed = _TOKEN.pack(_MAGIC, at, end, digest)
        response.next_page_token = urlsafe_b64encode(packed).decode().rstrip("=")
    message_of_page: Message = response
    return message_of_page


def _read_token(token: str, digest: bytes, now: float) -> tuple[float, int]:
    try:
        magic, at, start, of = _TOKEN.unpack(urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, struct.error):
        raise RefusedError(Reason.PAGE_TOKEN_INVALID, field="page_token") from None
    if magic != _MAGIC or of != digest or not 0 <= at <= now:
        raise RefusedError(Reason.PAGE_TOKEN_INVALID, field="page_token")
    return at, start

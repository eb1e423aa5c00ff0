"""The adapter's end of the link to one hub: dials, announces keys, takes frames, sends replies, comes back when lost.

Everything here belongs to the event loop. Frames wait in two lanes, interactive and bulk, each with a worker thread of
its own, so that a roster never makes a person at a counter wait; while a lane works, what arrives on one link is
joined into one frame, so that entries share a commit under load and wait for nothing otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import grpc
import structlog
from google.protobuf.message import DecodeError

from zhiwang.adapter.v1 import adapter_pb2, adapter_pb2_grpc
from zhiwang.audit.v1 import audit_pb2
from zhiwang.exchange.v1 import sealed_pb2
from zhiwang.wire.channel import RenewableChannel, is_cancelled, refusal_of
from zhiwang.wire.errors import Reason
from zhiwang.wire.gather import portions
from zhiwang.wire.header import is_bulk
from zhiwang.wire.outbox import Outbox

CREDIT = 1024
"""Requests that the adapter takes unanswered on one link."""

HELD_BYTES = 256 << 20
"""Bytes that one hub has here, of requests that wait and of replies that it has not taken. Beyond, its requests are
refused; at twice as much, since replies may be longer than their requests, its stream ends."""

FRAME_ITEMS = 256
"""Requests that are joined into one frame of work, at most, and"""

FRAME_ANSWERS = 1024
"""their answers; a single request of more goes alone. While a frame is written, nobody else can write."""

MAX_HELD = 256
"""Requests that wait at once for a directory which is not here yet; beyond, they are refused."""

HELD_SHARE = 0.8
"""Of the time that a request has left, for how much it may wait so; then there is still time to refuse it."""

HELD_SECONDS = 10.0
"""For how long one waits that says nothing of its time."""

REPLY_BYTES = 4 << 20
"""Bytes of replies in one message; what is longer, as reports of who asked can be, goes in several."""

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 3.0
"""Seconds between attempts to attach: doubled each time, with a random half taken off."""

WELCOME_SECONDS = 10.0
"""How long a hub may take to answer Hello."""

QUIET_SECONDS = 0.05
"""How long an old stream is listened to after its last answer."""

DRAIN_SECONDS = 60.0
"""How long a stream that was replaced may finish what it has."""

_log = structlog.get_logger(__name__)

Process = Callable[[adapter_pb2.RequestFrame], adapter_pb2.ReplyFrame]
"""Turns a frame into its reply; runs in a worker thread."""

Prove = Callable[[int, int, str], audit_pb2.GetConsistencyProofResponse]
"""Proves that the tree of one size is a prefix of another, in the log of an origin; runs in a worker thread."""


class _FloodedError(Exception):
    """The hub sends, and takes no answer; the stream ends.

    Waiting for it would hold up the lanes, and with them every other hub. A hub fails at once what was on a stream that
    has ended, as unavailable, so its requesters may ask again; what had been recorded they get once more, uncharged.
    """


@dataclass(slots=True)
class _Job:
    """A frame that waits in a lane."""

    session: Session
    frame: adapter_pb2.RequestFrame
    arrived: float
    answers: int


class Lane:
    """Frames of one priority, worked off in order by one thread.

    Args:
        name: Of the thread.
        process: Turns a frame into its reply.
        pause: Seconds until the next frame may begin. What waits meanwhile is joined, or told when it is too late.
        bulk: Whether nobody waits at a counter for what is in it.
    """

    def __init__(self, name: str, process: Process, pause: Callable[[], float], *, bulk: bool) -> None:
        self._bulk = bulk
        self._process = process
        self._pause = pause
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._jobs: deque[_Job] = deque()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, job: _Job) -> None:
        """Take a frame in."""
        self._jobs.append(job)
        self._idle.clear()
        self._arrived.set()

    def forget(self, session: Session) -> None:
        """Drop what waits here of a stream that has ended."""
        self._jobs = deque(job for job in self._jobs if job.session is not session)

    async def run(self) -> None:
        """Work until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            while not self._jobs:
                self._idle.set()
                self._arrived.clear()
                await self._arrived.wait()
            while (pause := self._pause()) > 0:  # noqa: ASYNC110 - time has to pass, nothing happens
                await asyncio.sleep(pause)
            if not self._jobs:
                continue
            session, frame, late = self._next(loop.time())
            if late:
                session.reply(adapter_pb2.ReplyFrame(items=late), bulk=self._bulk)
            if frame.items:
                reply = await loop.run_in_executor(self._executor, self._process, frame)
                session.reply(reply, bulk=self._bulk)

    def _next(self, now: float) -> tuple[Session, adapter_pb2.RequestFrame, list[adapter_pb2.ReplyFrame.Item]]:
        """The next work: neighbouring frames of one link joined; without what nobody waits for any more."""
        first = self._jobs.popleft()
        jobs = [first]
        items, answers = len(first.frame.items), first.answers
        while self._jobs and self._jobs[0].session is first.session:
            items += len(self._jobs[0].frame.items)
            answers += self._jobs[0].answers
            if items > FRAME_ITEMS or answers > FRAME_ANSWERS:
                break
            jobs.append(self._jobs.popleft())
        late = []
        frame = _like(jobs[-1].frame)
        for job in jobs:
            waited = now - job.arrived
            for item in job.frame.items:
                timeout = item.timeout.seconds + item.timeout.nanos / 1e9
                if item.HasField("timeout") and waited > timeout:
                    # Begun now, it would be recorded and charged for nobody.
                    late.append(
                        adapter_pb2.ReplyFrame.Item(
                            correlation_id=item.correlation_id, reason=Reason.OWNER_TIMED_OUT.name
                        )
                    )
                else:
                    frame.items.append(item)
        return first.session, frame, late

    async def drained(self) -> None:
        """Until nothing waits and nothing is being worked at."""
        await self._idle.wait()

    def close(self) -> None:
        """End the thread after what it has begun."""
        self._executor.shutdown(wait=True)


@dataclass(eq=False, slots=True)
class _Held:
    """A request that waits for the directory that it names."""

    job: _Job
    shape: _Shape
    timer: asyncio.TimerHandle | None = None


class Lanes:
    """The two lanes of a process.

    A request that must not be decided by the directory that is in force waits outside of them until a newer one is, or
    most of its time is over; then it goes its way and is refused. The hub passes on what its own directory reaches, and
    no more than it has credit for.

    Args:
        process: Turns a frame into its reply.
        pause: Seconds until the next frame of bulk may begin.
        version: Version of the directory in force.
    """

    def __init__(
        self, process: Process, pause: Callable[[], float] = lambda: 0.0, version: Callable[[], int] = lambda: 0
    ) -> None:
        self._version = version
        self._held: set[_Held] = set()
        self._interactive = Lane("interactive", process, lambda: 0.0, bulk=False)
        self._bulk = Lane("bulk", process, pause, bulk=True)

    def add(self, session: Session, frame: adapter_pb2.RequestFrame) -> None:
        """Take a frame in: each request into the lane that it belongs to, whatever the hub put beside it."""
        arrived = asyncio.get_running_loop().time()
        shapes = [_shape(item.request.header) for item in frame.items]
        if any(shape.version for shape in shapes):
            shapes = self._hold(session, frame, shapes, arrived)
        for lane, long in ((self._interactive, False), (self._bulk, True)):
            found = [(item, shape) for item, shape in zip(frame.items, shapes, strict=True) if shape.long is long]
            for some in portions(found, lambda one: one[1].answers, count=FRAME_ITEMS, size=FRAME_ANSWERS):
                part = _like(frame, [item for item, _ in some])
                lane.add(_Job(session, part, arrived, sum(shape.answers for _, shape in some)))

    def _hold(
        self, session: Session, frame: adapter_pb2.RequestFrame, shapes: Sequence[_Shape], arrived: float
    ) -> list[_Shape]:
        """Take out of a frame what names a directory that is not here yet. Returns the shapes of what is left."""
        here, loop = self._version(), asyncio.get_running_loop()
        kept, left = [], []
        for item, shape in zip(frame.items, shapes, strict=True):
            if shape.version <= here or len(self._held) >= MAX_HELD:
                kept.append(item)
                left.append(shape)
                continue
            part = _like(frame, [item])
            held = _Held(_Job(session, part, arrived, shape.answers), shape)
            seconds = item.timeout.seconds + item.timeout.nanos / 1e9 if item.HasField("timeout") else HELD_SECONDS
            held.timer = loop.call_later(seconds * HELD_SHARE, self._let_go, held)
            self._held.add(held)
        del frame.items[:]
        frame.items.extend(kept)
        return left

    def _let_go(self, held: _Held) -> None:
        if held.timer is not None:
            held.timer.cancel()
        self._held.discard(held)
        (self._bulk if held.shape.long else self._interactive).add(held.job)

    def forget(self, session: Session) -> None:
        """A stream has ended: drop what waits of it.

        The hub has failed it already, so it would be recorded and charged for nobody; and a hub that comes back again
        and again would fill this process, whatever its credit is.
        """
        for held in [one for one in self._held if one.job.session is session]:
            if held.timer is not None:
                held.timer.cancel()
            self._held.discard(held)
        self._interactive.forget(session)
        self._bulk.forget(session)

    def reached(self, version: int) -> None:
        """A directory of this version is in force."""
        for held in [one for one in self._held if one.shape.version <= version]:
            self._let_go(held)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._interactive.run())
            group.create_task(self._bulk.run())

    async def drained(self) -> None:
        """Until nothing waits and nothing is being worked at."""
        await self._interactive.drained()
        await self._bulk.drained()

    def close(self) -> None:
        """End the threads after what they have begun."""
        self._interactive.close()
        self._bulk.close()


def _size(item: adapter_pb2.ReplyFrame.Item) -> int:
    return item.ByteSize()


class _Shape(NamedTuple):
    """What is to be known of a request before it has its turn.

    Attributes:
        long: Whether a person at a counter is not to wait for it: a roster, or a report of who asked, which reads much.
        version: Version of the directory that it waits for.
        answers: How many it asks for.
    """

    long: bool
    version: int
    answers: int


def _shape(header: bytes) -> _Shape:
    try:
        message = sealed_pb2.Header.FromString(header)
    except DecodeError:
        # It is refused at once.
        return _Shape(long=False, version=0, answers=0)
    report = any(one.predicate == sealed_pb2.PREDICATE_REPORT for one in message.claims[:1])
    return _Shape(is_bulk(message) or report, message.min_policy_version, message.cases * len(message.claims))


class _Said(NamedTuple):
    """A message that waits to be written.

    Attributes:
        message: It.
        replies: How many are in it.
        size: Their bytes.
    """

    message: adapter_pb2.AttachRequest
    replies: int = 0
    size: int = 0


class Session:
    """One stream to a hub.

    A request counts as unanswered until its reply is being written: what the hub does not take, it has no credit for.

    Args:
        stub: Of the hub's AdapterService.
        lanes: Where frames go.
        hello: The first message.
        turned_away: Told of requests that were refused because the hub sent more than it was given credit for.
        prove: Proves how two heads of the owner's log are related.
    """

    def __init__(
        self,
        stub: adapter_pb2_grpc.AdapterServiceStub,
        lanes: Lanes,
        hello: adapter_pb2.Hello,
        turned_away: Callable[[Reason, int], None],
        prove: Prove,
    ) -> None:
        self._stub = stub
        self._lanes = lanes
        self._hello = hello
        self._turned_away = turned_away
        self._prove = prove
        self._proving: asyncio.Task[None] | None = None
        self._call: grpc.aio.StreamStreamCall[adapter_pb2.AttachRequest, adapter_pb2.AttachResponse] | None = None
        self._outbox: Outbox[_Said] = Outbox()
        self._requests: dict[int, int] = {}  # bytes of each that is here, by its number
        self._unread = 0  # replies that are not being written yet
        self._held = 0  # bytes of both
        self._exceeded = self._flooded = False
        self.attached = asyncio.Event()
        self.over = asyncio.Event()

    def send(self, message: adapter_pb2.AttachRequest, *, bulk: bool = False) -> None:
        """Say something after what was said before, but for what is bulk; lost with the stream."""
        if not self.over.is_set():
            replies, size = len(message.reply_frame.items), message.ByteSize()
            self._unread += replies
            self._held += size
            self._outbox.put(_Said(message, replies, size), bulk=bulk)
            if self._held > 2 * HELD_BYTES and self._call is not None:
                self._flooded = True
                self._call.cancel()

    def reply(self, frame: adapter_pb2.ReplyFrame, *, bulk: bool) -> None:
        """Answer requests of this stream, of one lane."""
        for item in frame.items:
            self._held -= self._requests.pop(item.correlation_id, 0)
        for items in portions(frame.items, _size, count=len(frame.items), size=REPLY_BYTES):
            part = frame
            if len(items) < len(frame.items):
                part = adapter_pb2.ReplyFrame(items=items)
                for head in ("log", "former_log"):
                    if frame.HasField(head):
                        getattr(part, head).CopyFrom(getattr(frame, head))
            self.send(adapter_pb2.AttachRequest(reply_frame=part), bulk=bulk)

    async def run(self) -> None:
        """From Hello until the stream ends.

        Raises:
            grpc.aio.AioRpcError: The stream could not be opened, or broke.
            TimeoutError: The hub did not answer Hello.
            _FloodedError: The hub keeps no bound.
        """
        call = self._call = self._stub.Attach()
        writer: asyncio.Task[None] | None = None
        try:
            await call.write(adapter_pb2.AttachRequest(hello=self._hello))
            welcome = await asyncio.wait_for(call.read(), WELCOME_SECONDS)
            if welcome is grpc.aio.EOF:
                await self._raise_status(call)
                return
            self.attached.set()
            _log.info("attached", hub=welcome.welcome.hub)
            writer = asyncio.create_task(self._write(call))
            while (message := await call.read()) is not grpc.aio.EOF:
                self._receive(message)
            await self._raise_status(call)
        except asyncio.CancelledError:
            if self._flooded and not is_cancelled():
                raise _FloodedError from None
            raise
        finally:
            self.attached.clear()
            self.over.set()
            self._lanes.forget(self)
            self._outbox.withdraw()
            if writer is not None:
                writer.cancel()
                with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await writer
            if self._proving is not None:
                self._proving.cancel()
            # An abandoned stream is never collected.
            call.cancel()

    @staticmethod
    async def _raise_status(
        call: grpc.aio.StreamStreamCall[adapter_pb2.AttachRequest, adapter_pb2.AttachResponse],
    ) -> None:
        if await call.code() is not grpc.StatusCode.OK:
            raise grpc.aio.AioRpcError(
                await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
            )

    async def _write(
        self, call: grpc.aio.StreamStreamCall[adapter_pb2.AttachRequest, adapter_pb2.AttachResponse]
    ) -> None:
        while (said := await self._outbox.get()) is not None:
            # Not after it was written: by then the hub may have sent more in its place.
            self._unread -= said.replies
            self._held -= said.size
            await call.write(said.message)
        await call.done_writing()

    def _receive(self, message: adapter_pb2.AttachResponse) -> None:
        kind = message.WhichOneof("message")
        if kind == "request_frame":
            self._take(message.request_frame)
        elif kind == "relate":
            # One at a time is what the hub keeps to; what it sends beyond that goes unanswered.
            if self._proving is None:
                self._proving = asyncio.create_task(self._relate(message.relate))
        elif kind == "draining":
            _log.info("the hub stops")
        # Cancel needs nothing: what was begun is recorded, and what was not ends with its own timeout.

    async def _relate(self, asked: adapter_pb2.Relate) -> None:
        try:
            proof = await asyncio.to_thread(self._prove, asked.old_size, asked.new_size, asked.origin)
        except Exception as error:  # noqa: BLE001 - the hub asks again; whatever it is ends no stream
            _log.error("the hub's question about the log cannot be answered", error=f"{type(error).__name__}: {error}")
        else:
            related = adapter_pb2.Related(
                old_size=asked.old_size, new_size=asked.new_size, origin=asked.origin, proof=proof
            )
            self.send(adapter_pb2.AttachRequest(related=related))
        finally:
            self._proving = None

    def _take(self, frame: adapter_pb2.RequestFrame) -> None:
        """Requests of the hub, as many as it has credit for: a hub that ignores it must not fill this process.

        Raises:
            _FloodedError: It does not even read the refusals.
        """
        taken: list[adapter_pb2.RequestFrame.Item] = []
        beyond: list[adapter_pb2.RequestFrame.Item] = []
        for item in frame.items:
            size = item.ByteSize()
            if (
                len(self._requests) + self._unread >= self._hello.credit
                or self._held + size > HELD_BYTES
                or item.correlation_id in self._requests
            ):
                beyond.append(item)
            else:
                self._requests[item.correlation_id] = size
                self._held += size
                taken.append(item)
        if beyond:
            if not self._exceeded:
                self._exceeded = True
                _log.warning("the hub exceeds its credit", requests=len(beyond))
            if self._unread > self._hello.credit:
                raise _FloodedError
            self._turned_away(Reason.OVERLOADED, len(beyond))
            reason = Reason.OVERLOADED.name
            refused = [
                adapter_pb2.ReplyFrame.Item(correlation_id=item.correlation_id, reason=reason) for item in beyond
            ]
            self.send(adapter_pb2.AttachRequest(reply_frame=adapter_pb2.ReplyFrame(items=refused)))
            frame = _like(frame, taken)
        if taken:
            self._lanes.add(self, frame)

    async def retire(self, seconds: float) -> None:
        """Take nothing more, finish what is here, end the stream; give up after so many seconds."""
        self.send(adapter_pb2.AttachRequest(draining=adapter_pb2.Draining()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                # What the hub sent before it heard of this is still on its way.
                await asyncio.sleep(QUIET_SECONDS)
                while (self._requests or self._unread) and not self.over.is_set():  # noqa: ASYNC110 - an answer may be followed by more
                    await asyncio.sleep(QUIET_SECONDS)
                self._outbox.end()
                await self.over.wait()


class HubLink:
    """The link to one hub, attached again whenever it is lost.

    Args:
        channel: To the hub.
        lanes: Where frames go.
        replica: Names this process among the replicas of the adapter.
        keys: Gives the valid sealing keys.
        version: Of this software.
        turned_away: As of `Session`.
        prove: As of `Session`.
        credit: Requests that the adapter takes unanswered.
    """

    def __init__(
        self,
        channel: RenewableChannel,
        lanes: Lanes,
        *,
        replica: str,
        keys: Callable[[], Sequence[sealed_pb2.OwnerKeyStatement]],
        version: str,
        turned_away: Callable[[Reason, int], None],
        prove: Prove,
        credit: int = CREDIT,
    ) -> None:
        self._channel = channel
        self._lanes = lanes
        self._replica = replica
        self._keys = keys
        self._version = version
        self._turned_away = turned_away
        self._prove = prove
        self._credit = credit
        self._generation = 0
        self._renewed = asyncio.Event()
        self._sessions: set[Session] = set()
        self._retiring: set[asyncio.Task[None]] = set()
        channel.on_renewal(self._renewed.set)

    @property
    def attached(self) -> bool:
        """Whether a stream is open and was welcomed."""
        return any(session.attached.is_set() for session in self._sessions)

    def announce_keys(self) -> None:
        """Tell the hub the sealing keys that are valid."""
        for session in self._sessions:
            session.send(adapter_pb2.AttachRequest(owner_keys=adapter_pb2.OwnerKeys(keys=self._keys())))

    async def run(self) -> None:
        """Attach and stay attached, until cancelled."""
        pause = FIRST_PAUSE
        while True:
            session = self._open()
            stream = asyncio.create_task(self._stream(session))
            renewed = asyncio.create_task(self._renewed.wait())
            try:
                await asyncio.wait({stream, renewed}, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                stream.cancel()
                raise
            finally:
                renewed.cancel()
            if not stream.done():
                # The certificate was renewed: a second stream first, then the old one goes.
                self._renewed.clear()
                self._generation += 1
                task = asyncio.create_task(self._hand_over(session))
                self._retiring.add(task)
                task.add_done_callback(self._retiring.discard)
                continue
            pause = FIRST_PAUSE if stream.result() else min(pause * 2, LONGEST_PAUSE)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads reconnections, hides nothing

    def _open(self) -> Session:
        # A hub takes a second stream of one name for the return of the first, which is right after a loss. Only a
        # stream that is to stand beside an old one has another name.
        replica = f"{self._replica}-{self._generation % 2}"
        hello = adapter_pb2.Hello(replica=replica, credit=self._credit, keys=self._keys(), version=self._version)
        stub = adapter_pb2_grpc.AdapterServiceStub(self._channel.current)
        session = Session(stub, self._lanes, hello, self._turned_away, self._prove)
        self._sessions.add(session)
        return session

    async def _stream(self, session: Session) -> bool:
        """Run a session to its end. Returns whether it had been welcomed."""
        welcomed = asyncio.create_task(session.attached.wait())
        try:
            await session.run()
            _log.info("the hub ended the link")
        except grpc.aio.AioRpcError as error:
            refusal = refusal_of(error)
            _log.warning("link lost", reason=refusal.reason.name, detail=refusal.detail)
        except TimeoutError:
            _log.warning("link lost", reason=Reason.HUB_UNREACHABLE.name, detail="no answer to Hello")
        except _FloodedError:
            _log.error("link ended", reason=Reason.OVERLOADED.name, detail="the hub keeps no bound")
        finally:
            self._sessions.discard(session)
            welcomed.cancel()
        return welcomed.done() and not welcomed.cancelled()

    async def _hand_over(self, old: Session) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WELCOME_SECONDS):
                while not any(  # noqa: ASYNC110 - the session to wait for may not be there yet
                    one.attached.is_set() for one in self._sessions if one is not old
                ):
                    await asyncio.sleep(QUIET_SECONDS)
        await old.retire(DRAIN_SECONDS)

    async def drain(self, seconds: float) -> None:
        """Take nothing more and finish what is here, on every stream."""
        await asyncio.gather(*(session.retire(seconds) for session in self._sessions))


def _like(
    frame: adapter_pb2.RequestFrame, items: Sequence[adapter_pb2.RequestFrame.Item] = ()
) -> adapter_pb2.RequestFrame:
    """Other items, for a hub that has seen the same of our logs."""
    return adapter_pb2.RequestFrame(items=items, known_tree_size=frame.known_tree_size, known_origin=frame.known_origin)

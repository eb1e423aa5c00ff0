"""A witness: it cosigns checkpoints of logs that only grow, and remembers each before it answers.

It decides in the order of C2SP tlog-witness: form, origin, signature, sizes, consistency; then the new checkpoint is
made durable, and only then it is signed. HTTP stands in `audit/witness_http.py`, what is remembered in
`audit/witness_store.py`.

Logs of this city sign with keys of certificates that expire and are renewed. Such a log is known by its identity; its
certificate comes with the submission and is checked against the pinned authority and the revocation list of the
directory. Any other log is known by its verifier key.

Sources: https://c2sp.org/tlog-witness, https://c2sp.org/tlog-cosignature.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from audit import submission
from audit.checkpoint import Checkpoint, CheckpointError, join_signatures, split_note, verify_signature
from audit.cosignature import cosign
from audit.submission import Submission
from audit.witness_store import Cosigned, WitnessStore
from certs.signing import CertificateVerifier
from zhiwang.wire import merkle
from zhiwang.wire.errors import FatalError, RefusedError
from zhiwang.wire.identity import LOG_KEEPERS
from zhiwang.wire.vkey import VerifierKey

OK: Final = 200
MALFORMED: Final = 400
NOT_SIGNED: Final = 403
UNKNOWN_LOG: Final = 404
CONFLICT: Final = 409
INCONSISTENT: Final = 422
NOT_NOW: Final = 503

CLOCK_TOLERANCE: Final = 60
"""Seconds by which the clock may have been set back since a log was cosigned last; further back nothing is signed."""
REPEAT_SECONDS: Final = 60
"""How long the same thing is not told again."""
MAX_EVIDENCE: Final = 100
"""Contradictions that are kept as files. One is enough to convict a log."""

_SHARD: Final = re.compile(r"(.+)/(2[0-9]{3})")
"""Origin of a year's shard of a log of this city; the identity is what stands before the year."""

_log = structlog.get_logger(__name__)


class Answer(NamedTuple):
    """What is answered over HTTP."""

    status: int
    body: bytes
    content_type: str = submission.TEXT_TYPE


class _Refusal(Exception):  # noqa: N818 - an answer, not an error
    """Ends a submission with an answer that is not a cosignature."""

    def __init__(self, status: int, text: str, content_type: str = submission.TEXT_TYPE) -> None:
        super().__init__(text)
        self.answer = Answer(status, f"{text}\n".encode(), content_type)


class _Seldom:
    """Lets each thing be told once a minute, since strangers must not be able to fill the log of operation."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told: dict[tuple[str, str], float] = {}  # by what it is and the origin of a log that is followed

    def due(self, what: str, origin: str) -> bool:
        now, before = self._clock(), self._told.get((what, origin))
        if before is not None and 0 <= now - before < REPEAT_SECONDS:
            return False
        self._told[what, origin] = now
        return True


class KnownLogs:
    """Which logs a witness follows, and by which keys they sign at the moment.

    Args:
        keys: Of logs that are known by verifier keys, by origin.
        certified: Origins (without a year) of this city's logs that are known by their certificates.
        verifier: Of this city's certificates, with the newest revocation list.
        current: Whether that list is current. Without it no certificate is believed.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        keys: Mapping[str, Sequence[VerifierKey]],
        certified: Collection[str],
        verifier: CertificateVerifier,
        current: Callable[[], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._certified = frozenset(certified)
        self._verifier = verifier
        self._current = current
        self._clock = clock
        self._seldom = _Seldom(clock)

    def follows_by_key(self, origin: str) -> bool:
        """Whether a log is known by verifier keys, and not by its certificates."""
        return origin in self._keys

    def keys_of(self, origin: str, certificate: bytes) -> Sequence[VerifierKey]:
        """Keys whose signature counts for a log.

        Args:
            origin: Of the log.
            certificate: DER, as it came with the submission; empty if none came.

        Raises:
            _Refusal: The log is not followed, or its certificate does not hold, or cannot be judged now.
        """
        if origin in self._keys:
            return self._keys[origin]
        now = self._clock()
        identity = self._identity(origin, now)
        if identity not in self._certified:
            raise _Refusal(UNKNOWN_LOG, "this witness does not follow this log")
        if not self._current():
            raise _Refusal(NOT_NOW, "this witness has no current revocation list")
        try:
            verified = self._verifier.verify(certificate, now, kinds=LOG_KEEPERS)
        except RefusedError as error:
            if self._seldom.due("certificate", origin):
                _log.warning(
                    "certificate of a log refused", origin=origin, reason=error.reason.name, detail=error.detail
                )
            raise _Refusal(NOT_SIGNED, f"the log's certificate: {error.reason.name}") from None
        if verified.identity.log_origin != identity:
            raise _Refusal(NOT_SIGNED, "the certificate is of another log's keeper")
        return (VerifierKey(origin, verified.public_key_raw),)

    @staticmethod
    def _identity(origin: str, now: float) -> str:
        """Whose log an origin names; a shard may be begun a year ahead at most, so there is no end of them."""
        shard = _SHARD.fullmatch(origin)
        if shard is None:
            return origin
        return shard[1] if int(shard[2]) <= datetime.fromtimestamp(now, UTC).year + 1 else origin


class Witness:
    """Decides about submissions. Calls block; they are safe from several threads.

    Args:
        key: The witness's verifier key.
        sign: Signs bytes with its private half.
        logs: Which logs are followed.
        store: What was cosigned.
        evidence: Directory for checkpoints that contradict what was cosigned.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        key: VerifierKey,
        sign: Callable[[bytes], bytes],
        logs: KnownLogs,
        store: WitnessStore,
        evidence: Path,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.key = key
        self.store = store
        self._sign = sign
        self._logs = logs
        self._evidence = evidence
        self._clock = clock
        self._seldom = _Seldom(clock)

    def add_checkpoint(self, body: bytes, certificate: bytes = b"") -> Answer:
        """Answer one submission.

        Args:
            body: As it came.
            certificate: DER of the log's certificate, if it came.
        """
        try:
            return self._add(body, certificate)
        except _Refusal as refusal:
            return refusal.answer
        except FatalError as error:
            _log.error("nothing is cosigned", reason=error.reason.name, detail=error.detail)
            return Answer(NOT_NOW, b"this witness cannot remember what it would sign\n")

    def _add(self, body: bytes, certificate: bytes) -> Answer:
        try:
            submitted = Submission.parse(body)
            text, signatures = split_note(submitted.note)
            checkpoint = Checkpoint.parse(text)
        except CheckpointError as error:
            raise _Refusal(MALFORMED, str(error)) from None
        signed_by = self._check_signed(checkpoint.origin, text, signatures, certificate)
        if submitted.old > checkpoint.size:
            raise _Refusal(MALFORMED, "the old size is larger than the checkpoint's")

        def decide(before: Cosigned) -> None:
            if submitted.old != before.size:
                raise _Refusal(CONFLICT, str(before.size), submission.SIZE_TYPE)
            self._check_extends(submitted, checkpoint, signed_by, before)

        moment = self.store.advance(checkpoint, submitted.note, signed_by, decide, self._time)
        line = cosign(text, self.key, self._sign, moment)
        # A renewal every few seconds says nothing new.
        say = _log.debug if checkpoint.size == submitted.old else _log.info
        say("cosigned", origin=checkpoint.origin, size=checkpoint.size, extends=submitted.old, time=moment)
        return Answer(OK, join_signatures([line]).encode())

    def _check_signed(
        self, origin: str, text: str, signatures: Sequence[tuple[str, bytes, bytes]], certificate: bytes
    ) -> str:
        """One of the log's keys must have signed, and none of them wrongly; signatures of others are passed over.

        Returns:
            By what they were verified, as `Cosigned.signed_by`.
        """
        keys = {(key.name, key.id): key for key in self._logs.keys_of(origin, certificate)}
        signed = []
        for name, identifier, signature in signatures:
            key = keys.get((name, identifier))
            if key is None:
                continue
            try:
                verify_signature(key.public_key_raw, signature, text.encode())
            except CheckpointError:
                raise _Refusal(NOT_SIGNED, "a signature of the log does not verify") from None
            signed.append(str(key))
        if not signed:
            raise _Refusal(NOT_SIGNED, "not signed by a key of this log")
        if self._logs.follows_by_key(origin):
            return "\n".join([*dict.fromkeys(signed), ""])
        return ssl.DER_cert_to_PEM_cert(certificate)

    def _check_extends(self, submitted: Submission, checkpoint: Checkpoint, signed_by: str, before: Cosigned) -> None:
        root = before.root if before.note else merkle.EMPTY_ROOT
        if before.note and checkpoint.size == before.size and checkpoint.root != root:
            self._keep_evidence(submitted, checkpoint, signed_by, before)
            raise _Refusal(CONFLICT, "this witness has cosigned another tree of this size")
        try:
            merkle.verify_consistency(before.size, checkpoint.size, root, checkpoint.root, submitted.proof)
        except merkle.ProofError:
            # Not evidence by itself: anybody can send a true checkpoint with a false proof.
            if self._seldom.due("proof", checkpoint.origin):
                _log.warning(
                    "a checkpoint is not proved to extend what was cosigned",
                    origin=checkpoint.origin,
                    cosigned=before.size,
                    submitted=checkpoint.size,
                    note=submitted.note.decode(),
                )
            raise _Refusal(INCONSISTENT, "the checkpoint is not proved to extend the one cosigned last") from None

    def _time(self, before: Cosigned) -> int:
        """Now; never before what was signed of this log."""
        now = int(self._clock())
        if before.time > now + CLOCK_TOLERANCE:
            _log.error("the clock was set back; nothing is cosigned until it has caught up", behind=before.time - now)
            raise _Refusal(NOT_NOW, "this witness's clock is behind what it has signed")
        return max(now, before.time)

    def _keep_evidence(self, submitted: Submission, checkpoint: Checkpoint, signed_by: str, before: Cosigned) -> None:
        """Two trees of one size that one log signed convict it, whoever shows them, also when it has other keys."""
        content = "\n".join(
            [
                before.note.decode(),
                submitted.note.decode(),
                "The first is signed by:",
                before.signed_by or "(an older release of this witness cosigned it, and did not keep that)\n",
                "The second is signed by:",
                signed_by,
            ]
        ).encode()
        name = f"{hashlib.sha256(content).hexdigest()[:32]}.txt"
        if self._seldom.due("contradiction", checkpoint.origin):
            _log.error(
                "a log contradicts what was cosigned; call the audit office",
                origin=checkpoint.origin,
                size=checkpoint.size,
                evidence=name,
            )
        try:
            if len(list(self._evidence.iterdir())) < MAX_EVIDENCE:
                (self._evidence / name).write_bytes(content)
        except OSError as error:
            _log.error("the evidence could not be kept", error=type(error).__name__, note=submitted.note.decode())

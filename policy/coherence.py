"""Whether the directory would still hold together as a whole with what a role publishes.

Each file has been read and each signature verified by then (`admission.py`). Here the files are held against one
another (`crosscheck.py`), and against what departments assert of everybody's grants together (`assertions.py`).
"""

from __future__ import annotations

from dataclasses import replace

import structlog
from tuf.api.metadata import Targets

from policy.assemble import assemble
from policy.assertions import broken
from policy.contents import Contents
from policy.crosscheck import check_document, check_matter
from policy.document import Mistake
from policy.findings import findings_metadata
from policy.metadata import CENTRE, CENTRE_FILE, SUSPEND, departments_of, document_path, matter_path, parse_metadata
from policy.model import Directory
from zhiwang.wire.errors import FatalError, Reason, RefusedError

_log = structlog.get_logger(__name__)


def judge(
    candidate: Contents, before: Directory | None, role: str, ca_pem: bytes, now: float, *, unsigned: str = ""
) -> Directory:
    """What would be in force, if the whole still holds together.

    Args:
        candidate: With what a role publishes.
        before: In force until then; None before the centre has published.
        role: Which role.
        ca_pem: The pinned authority.
        now: Seconds since the epoch.
        unsigned: A role that still lacks signatures.

    Raises:
        RefusedError: METADATA_INVALID, DOCUMENT_INVALID or ASSERTION_FAILED.
    """
    directory = _assembled(candidate, ca_pem, now, unsigned)
    judged = directory
    if role in directory.lapsed:
        # The role itself has been verified: it delegates its suspensions to other admins, who sign them next.
        metadata = {name: data for name, data in candidate.metadata.items() if name != role + SUSPEND}
        judged = _assembled(replace(candidate, metadata=metadata), ca_pem, now, unsigned)
        _log.warning("lapsed until its suspensions are signed again", role=role)
    found = _beside_others(candidate, judged, role)
    if found:
        raise RefusedError(Reason.DOCUMENT_INVALID, "; ".join(found), metadata=findings_metadata(found))
    if role == CENTRE or role in judged.documents:
        flipped = broken(before, judged, None if role == CENTRE else role, now)
        if flipped:
            told = [f"{department}: {assertion}" for department, assertion in flipped]
            raise RefusedError(Reason.ASSERTION_FAILED, "; ".join(told), metadata=findings_metadata(told))
    return directory


def _assembled(contents: Contents, ca_pem: bytes, now: float, unsigned: str) -> Directory:
    try:
        return assemble(contents.parts(now, unsigned), ca_pem)
    except FatalError as error:
        raise RefusedError(error.reason, error.detail, metadata=findings_metadata([error.detail])) from error


def _beside_others(candidate: Contents, directory: Directory, role: str) -> list[str]:
    """What is wrong with what a role publishes, beside everything else."""
    mistakes: list[tuple[str, list[Mistake]]] = []
    if role == CENTRE:
        centre = directory.centre
        mistakes += [(matter_path(matter.name), check_matter(matter, centre)) for matter in directory.matters.values()]
        delegated = set(departments_of(parse_metadata(candidate.metadata[CENTRE], Targets).signed))
        mistakes += [
            (CENTRE_FILE, [Mistake(("department", name), "a member needs admins' keys, and only a member has them")])
            for name in sorted(delegated ^ set(centre.departments))
        ]
    elif role in directory.documents:
        mistakes.append((document_path(role), check_document(directory.documents[role], directory)))
    return [
        f"{path}: {'.'.join(map(str, mistake.key))}: {mistake.message}" for path, found in mistakes for mistake in found
    ]

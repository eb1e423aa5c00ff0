"""The directory as it would be with files that nobody has signed yet: to look at, never to decide by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

from tuf.api.metadata import Targets

from policy.centre import parse_centre, parse_matter
from policy.document import parse_document, parse_suspensions
from policy.metadata import CENTRE, CENTRE_FILE, REVOCATIONS_FILE, Publication, matter_path, parse_metadata
from policy.model import Centre, Directory
from policy.publishing import Named, classify_all

_NOBODY = Directory(
    0, MappingProxyType({}), float("inf"), Centre("", {}, {}), MappingProxyType({}), MappingProxyType({})
)


def removed_matters(publication: Publication, directory: Directory) -> list[str]:
    """Names of the matters in force that a publication of the centre no longer lists; none for other roles.

    Raises:
        RefusedError: METADATA_INVALID.
    """
    if publication.role != CENTRE:
        return []
    listed = parse_metadata(publication.metadata, Targets).signed.targets
    return [name for name in directory.matters if matter_path(name) not in listed]


def rehearsed(directory: Directory | None, files: Sequence[Named], *, removed: Sequence[str] = ()) -> Directory:
    """A directory with some of its files replaced.

    Args:
        directory: In force; None begins with nothing.
        files: centre.toml, matters, documents, suspensions; told apart by what is in them. A revocation list changes
            nobody's rights and is passed over.
        removed: Names of matters that go.

    Raises:
        FileError: With every finding in all of the files.
        RefusedError: METADATA_INVALID, if a file stands twice.
    """
    before = directory or _NOBODY
    groups = classify_all(files)
    centre, matters = before.centre, dict(before.matters)
    for path, content in groups["centre"].items():
        if path == CENTRE_FILE:
            centre = parse_centre(content)
        elif path != REVOCATIONS_FILE:
            matter = parse_matter(content)
            matters[matter.name] = matter
    for name in removed:
        matters.pop(name, None)
    documents = dict(before.documents)
    for department, content in groups["document"].items():
        known = documents.get(department)
        documents[department] = parse_document(content, version=1 if known is None else known.version + 1)
    suspensions = before.suspensions
    for department, content in groups["suspend"].items():
        kept = tuple(entry for entry in suspensions if entry.department != department)
        suspensions = (*kept, *parse_suspensions(content)[1])
    return replace(
        before,
        centre=centre,
        matters=MappingProxyType(matters),
        # What the centre no longer lists neither asks nor answers.
        documents=MappingProxyType({name: found for name, found in documents.items() if name in centre.departments}),
        suspensions=tuple(entry for entry in suspensions if entry.department in centre.departments),
    )

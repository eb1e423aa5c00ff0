"""What the hub has seen of owners' logs, kept over restarts, so that no owner can show it a shorter or another history.

One small file for each adapter in the hub's state directory. Who can write there can make the hub forget; agents and
witnesses remember by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import structlog

from audit.proofs import HeadChecker
from audit.years import YearsView
from certs.identity import Identity, Kind
from certs.signing import CertificateVerifier
from zhiwang.wire.errors import RefusedError
from zhiwang.wire.kept import KeptFile

_log = structlog.get_logger(__name__)


class OwnerViews:
    """Makes and keeps views. Owned by the event loop; `save` blocks and may run in a worker thread.

    Args:
        directory: Where the files lie; it exists.
        verifier: Of this city's certificates.
        clock: Seconds since the epoch.
    """

    def __init__(self, directory: Path, verifier: CertificateVerifier, clock: Callable[[], float]) -> None:
        self._directory = directory
        self._verifier = verifier
        self._clock = clock
        self._views: dict[Path, YearsView] = {}
        self._files: dict[Path, KeptFile] = {}
        self._written: dict[Path, int] = {}  # revisions

    def view(self, adapter: Identity) -> YearsView:
        """A view of the log of one adapter, with what was seen before.

        Raises:
            RefusedError: PROOF_INVALID: the file is damaged. The adapter cannot attach until an operator has looked.
        """
        checker = HeadChecker(
            self._verifier, kinds={Kind.ADAPTER}, expected=lambda identity: identity == adapter, clock=self._clock
        )
        view = YearsView(checker, adapter.log_origin)
        path = self._directory / f"{adapter.department}_{adapter.name}.json"
        try:
            view.restore(path.read_bytes())
        except FileNotFoundError:
            pass
        except RefusedError as error:
            _log.error("what was seen of an owner's log cannot be read", path=str(path), detail=error.detail)
            raise
        self._views[path] = view
        self._files.setdefault(path, KeptFile(path))
        self._written[path] = view.revision
        return view

    def changed(self) -> dict[Path, Callable[[], None]]:
        """Files whose content is newer than what was taken before, and how each is written."""
        found = {}
        for path, view in self._views.items():
            if view.revision != self._written[path]:
                self._written[path] = view.revision
                found[path] = self._files[path].writing(view.export())
        return found

    def not_saved(self, files: Iterable[Path]) -> None:
        """These could not be written: `changed` is to give them again."""
        self._written.update(dict.fromkeys(files, -1))

    @staticmethod
    def save(files: Mapping[Path, Callable[[], None]]) -> None:
        """Write what `changed` gave, each file whole or not at all.

        Raises:
            OSError: One cannot be written.
        """
        for write in files.values():
            write()

"""The files of the directory that was verified last, kept beside TUF's own as one file.

TUF writes each piece down as it verifies it. A reading that is broken off leaves a timestamp without what belongs to
it, from which nothing can be loaded; what was in force until then is loaded from here.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from zhiwang.wire.errors import Reason, RefusedError
from zhiwang.wire.kept import PUBLIC, replace_durably


def keep_whole(path: Path, files: Mapping[str, bytes]) -> None:
    """Write or replace the set durably.

    Args:
        path: Its directory exists.
        files: By their paths in the repository.

    Raises:
        OSError: It cannot be written; the old set is still there.
    """
    content = {name: base64.b64encode(data).decode() for name, data in files.items()}
    replace_durably(path, json.dumps(content).encode(), mode=PUBLIC)


def read_whole(path: Path) -> Callable[[str], bytes]:
    """Gives the bytes at a path of the set that was kept, to be verified anew.

    Raises:
        RefusedError: HUB_UNREACHABLE, if there is none that can be read; FILE_UNKNOWN, where it has no such file.
    """
    try:
        content = {
            str(name): base64.b64decode(data, validate=True) for name, data in json.loads(path.read_bytes()).items()
        }
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        raise RefusedError(Reason.HUB_UNREACHABLE, f"{path.name} cannot be read") from None

    def fetch(name: str) -> bytes:
        if name not in content:
            raise RefusedError(Reason.FILE_UNKNOWN, name)
        return content[name]

    return fetch

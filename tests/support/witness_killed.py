"""`zhiwang witness run`, but for a kill -9 in place of a signature.

    python witness_killed.py PROFILE

When a new checkpoint is durable and the witness would sign it, the process ends at once.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path

from audit import witness as deciding
from exchange import witness
from zhiwang.wire.process import run
from zhiwang.wire.profile import load_profile


def _killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    vars(deciding)["cosign"] = _killed
    profile = load_profile(Path(sys.argv[1]))
    sys.exit(run("witness", partial(witness.main, profile), state=profile.state))

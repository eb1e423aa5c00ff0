"""What Zhiwang costs, each figure as a ratio to a plain baseline measured in the same run on the same machine."""

import os

# As in every process of ours (`exchange/cli/__init__.py`): benchmarks start programs while gRPC is at work.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

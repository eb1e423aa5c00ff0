"""The `zhiwang` command, one file for each noun."""

import os

# No process of ours goes on with gRPC in what it forked: it only starts programs. gRPC's handlers of
# fork(2) serve the one, and abort the other now and then before it has begun. gRPC looks at this when it is imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

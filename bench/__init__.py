"""What Zhiwang costs, each figure as a ratio to a plain baseline measured in the same run on the same machine."""

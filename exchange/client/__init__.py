"""The agent and the SDK: seals, sends, opens, checks, keeps receipts."""

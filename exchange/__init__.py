"""The hub, and with it the client, the command line and the console."""

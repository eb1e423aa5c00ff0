"""What a service manager asks to be told: that a process serves, why it does not, that it stops, and that it lives.

The protocol of sd_notify(3): a datagram to the socket that `NOTIFY_SOCKET` names. Where nobody asks, nothing happens.
"""

from __future__ import annotations

import asyncio
import os
import socket

SOCKET = "NOTIFY_SOCKET"
WATCHDOG = "WATCHDOG_USEC"


def notify(*lines: str) -> None:
    """Tell the service manager, e.g. `notify("READY=1")`. A manager that does not listen is no reason to fail."""
    address = os.environ.get(SOCKET)
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # Linux's abstract names
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.sendto("\n".join(lines).encode(), address)
    except OSError:
        return


async def keep_alive() -> None:
    """Tell again and again that the event loop turns, twice in the time after which the manager takes it for stuck.

    Runs until it is cancelled; returns at once where nobody watches.
    """
    text = os.environ.get(WATCHDOG, "")
    if not text.isdecimal() or not int(text):
        return
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(int(text) / 1e6 / 2)

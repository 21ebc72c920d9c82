"""Ports for servers of tests."""

import random
import socket
from contextlib import suppress


def free_port() -> int:
    """A free port below those that the kernel hands out, so that nobody is given it meanwhile."""
    while True:
        port = random.randrange(20_000, 32_000)  # noqa: S311
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port

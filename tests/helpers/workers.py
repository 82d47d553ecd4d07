"""The workers of a study as forks of the zygote, with small networks, so that they start quickly.

By default, multiprocessing starts a fork server for each process, and each server would import everything.
"""

from __future__ import annotations

import os
import socket
from multiprocessing import forkserver, resource_tracker

from tests.helpers.runs import shrunk_networks

PRELOAD = ["torch", "sklearn.cluster", "sklearn.linear_model", "joblib", "tests.helpers.small"]
SHARED = not hasattr(forkserver._forkserver, "_forkserver_authkey")  # type: ignore[attr-defined]
"""Since Python 3.14, a fork server only accepts the process that started it."""


def beside(zygote: str) -> str:
    """The socket of the fork server of a zygote."""
    return f"{zygote}.workers"


def serve(address: str) -> None:
    """Fork a fork server that listens on a Unix socket. It ends after this process and all its forks."""
    end, ours = os.pipe()
    os.set_inheritable(ours, True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        if os.fork() == 0:
            os.close(ours)
            with shrunk_networks():
                forkserver.main(listener.detach(), end, [])
    os.close(end)


def share(address: str) -> None:
    """From here on, the fork server at ``address`` starts the child processes of this process."""
    from softvq_cli.experiments import backends

    backends.METHOD = "forkserver"
    server = forkserver._forkserver  # type: ignore[attr-defined]
    if SHARED:
        server._forkserver_address = address
        server._forkserver_alive_fd = os.open(os.devnull, os.O_RDONLY)
        server.ensure_running = resource_tracker.ensure_running
    else:
        server.set_forkserver_preload(PRELOAD)

"""Processes that serve on one address, and a supervisor of them: for `acredssp serve` and `acredssp proxy`.

`bind` makes the listening sockets, `Supervisor` keeps a worker process at each place, and `notify_systemd` tells
systemd that the service is ready. Linux only: see `is_supported`.
"""

from acredssp.workers.listening import Address, Sockets, bind, bind_shared, inherited, take_bound
from acredssp.workers.supervisor import EXIT_FAILED, Supervisor, Worker, is_supported
from acredssp.workers.systemd import notify_systemd

__all__ = [
    "EXIT_FAILED",
    "Address",
    "Sockets",
    "Supervisor",
    "Worker",
    "bind",
    "bind_shared",
    "inherited",
    "is_supported",
    "notify_systemd",
    "take_bound",
]

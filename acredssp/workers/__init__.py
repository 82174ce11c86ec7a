"""Processes that serve on one address, and a supervisor of them: for `acredssp serve` and `acredssp proxy`.

`bind` makes the listening sockets, `Supervisor` keeps a worker process at each place. Linux only: see `is_supported`.
"""

from acredssp.workers.listening import Address, Sockets, bind, inherited
from acredssp.workers.supervisor import EXIT_FAILED, Supervisor, Worker, is_supported

__all__ = ["EXIT_FAILED", "Address", "Sockets", "Supervisor", "Worker", "bind", "inherited", "is_supported"]

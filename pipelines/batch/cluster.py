"""Workers on the machines of a Ray cluster. They read the inputs and write the results of their work by the paths of this
machine, so both must lie on a file system that all share."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vidunmask.errors import DeviceError, UsageError, VidunmaskError
from vidunmask.pipelines.batch.workers import Event, Failed, Task, perform
from vidunmask.pipelines.build import Parts, build
from vidunmask.pipelines.config import Config

_CORES = 4  # for a worker without a GPU, where the cluster has as many
_STARTS = 3  # tries for each worker while none has ever come up


class _Remote:
    """What runs on the cluster: the networks, loaded once, and one task at a time."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._parts: Parts | None = None

    def ready(self) -> tuple[str, int]:
        """Where it runs: the node's address and the process."""
        import os

        import ray

        return ray.util.get_node_ip_address(), os.getpid()

    def perform(self, task: Task) -> Any:
        """Does a task; see `workers.perform`."""
        try:
            self._parts = self._parts or build(self._config)
        except VidunmaskError as error:
            return Failed(str(error), error.exit_code, fatal=True)
        return perform(task, self._parts, lambda done: None)


@dataclass(eq=False)
class _Actor:
    handle: Any
    greeting: Any  # pending until the cluster has room for it
    key: int | None = None
    result: Any = None
    is_ready: bool = False


def _check(address: str) -> None:
    """Raises DeviceError where nobody listens at HOST:PORT; Ray itself would go on trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise DeviceError(f"--ray {address}: no cluster can be reached there ({error}); start one with `ray start`") from error


class RayWorkers:
    """As many workers as the cluster has room for, or ``jobs``: one on each GPU, else one on every few cores.

    A worker that is lost, with its process or its machine, is replaced, and its task is handed back as lost. Raises UsageError
    where Ray is not installed, DeviceError where the cluster cannot be reached.
    """

    def __init__(self, address: str, config: Config, jobs: int | None, note: Callable[[str], None]) -> None:
        try:
            import ray
        except ImportError as error:
            raise UsageError(f"--ray {address}: Ray is not installed; pip install 'vidunmask[ray]'") from error
        self._ray = ray
        self._address = address
        self._config = config
        self._note = note
        _check(address)
        # Ray puts handlers of its own in the place of ours.
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            ray.init(
                address=None if address == "local" else address,
                include_dashboard=False if address == "local" else None,
                configure_logging=True,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            line = (str(error).strip().splitlines() or ["no reason given"])[0]
            raise DeviceError(
                f"--ray {address}: no cluster can be reached there ({line}); start one with `ray start`"
            ) from error
        finally:
            with contextlib.suppress(ValueError):  # not the main thread
                for number, handler in handlers.items():
                    signal.signal(number, handler)
        has = ray.cluster_resources()
        gpus, cores = int(has.get("GPU", 0)) if config.device != "cpu" else 0, max(1, int(has.get("CPU", 1)))
        count = jobs or gpus or max(1, cores // _CORES)
        self._cores = max(1, min(_CORES, cores // count))
        self._gpus = min(1.0, math.floor(100 * gpus / count) / 100) if gpus else 0.0
        self._failed_starts, self._most = 0, _STARTS * count
        self._actors = [self._start() for _ in range(count)]
        note(f"{count} workers on a cluster of {cores} cores and {gpus} GPUs")

    def _start(self) -> _Actor:
        made: Any = self._ray.remote(_Remote)
        handle = made.options(num_cpus=self._cores, num_gpus=self._gpus, max_restarts=0).remote(self._config)
        return _Actor(handle, handle.ready.remote())

    @property
    def room(self) -> int:
        return sum(actor.is_ready and actor.key is None for actor in self._actors)

    def submit(self, key: int, task: Task) -> None:
        actor = next(actor for actor in self._actors if actor.is_ready and actor.key is None)
        actor.key, actor.result = key, actor.handle.perform.remote(task)

    def wait(self) -> list[Event]:
        """Waits half a second at most, so that signals are noticed."""
        pending = {actor.greeting: actor for actor in self._actors if not actor.is_ready}
        pending |= {actor.result: actor for actor in self._actors if actor.key is not None}
        if not pending:
            return []
        ready, _ = self._ray.wait(list(pending), num_returns=1, timeout=0.5)
        events: list[Event] = []
        for reference in ready:
            actor = pending[reference]
            try:
                value = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                self._actors.remove(actor)
                self._check_start(actor, error)
                self._actors.append(self._start())
                if actor.key is not None:
                    events.append(Event(actor.key, None))
                continue
            if not actor.is_ready:
                actor.is_ready, self._failed_starts = True, 0
                self._note(f"a worker is ready: process {value[1]} on {value[0]}")
            else:
                events.append(Event(actor.key if actor.key is not None else -1, value))
                actor.key = actor.result = None
        return events

    def _check_start(self, lost: _Actor, error: Exception) -> None:
        """Raises DeviceError where workers are lost again and again before they are ready; nobody is left to do the work."""
        self._failed_starts += not lost.is_ready
        if self._failed_starts >= self._most and not any(actor.is_ready for actor in self._actors):
            line = (str(error).strip().splitlines() or ["no reason given"])[-1]
            raise DeviceError(
                f"--ray {self._address}: no worker comes up there ({line}); is vidunmask installed on all its machines?"
            ) from error

    def close(self) -> None:
        """Ends the workers and leaves the cluster; one that was started for this batch ends."""
        for actor in self._actors:
            with contextlib.suppress(Exception):
                self._ray.kill(actor.handle)
        self._actors = []
        self._ray.shutdown()

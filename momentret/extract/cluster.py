"""The shards of an extraction as tasks of a Ray cluster, which moves them when a process or a machine dies.

Every machine needs momentret, and the videos and the output under the same paths (a shared file system).
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from momentret.errors import ConfigError, DataError
from momentret.extract.shards import Advance, Job, shards

__all__ = ["require_cluster", "run_on_ray"]

_TICK = 0.5
_RETRIES = 100
"""Times that a shard is begun again after the death of its process."""


def run_on_ray(job: Job, address: str, count: int | None = None, advance: Advance = lambda finished: None) -> None:
    """Do all shards of a job on a cluster.

    Args:
        job: what to do. Afterwards the ledger has every video.
        address: of the cluster: ``HOST:PORT``, ``"auto"`` for the one this machine is part of, ``"local"`` for a new
            one on this machine.
        count: of shards; default: as many as the processors carry.
        advance: told about progress.

    Raises:
        ConfigError: Ray is not installed.
        DataError: there is no such cluster, or a shard dies again and again.
        MomentretError: from a shard: what doing it again would not help.
    """
    ray = require_cluster(address)
    try:
        ray.init(address=address, log_to_driver=False, include_dashboard=False if address == "local" else None)
    except (OSError, ValueError, RuntimeError) as error:
        raise _no_cluster(address, error) from error
    try:
        machines = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        share = min(job.workers, max(machines))  # a task that fits nowhere would wait for ever
        parts = shards(count or max(1, sum(machines) // max(share, 1)))
        task = ray.remote(_work).options(num_cpus=share, max_retries=_RETRIES)
        pending = [task.remote(job, shard, str(Path.cwd())) for shard in parts]
        while pending:
            done, pending = ray.wait(pending, timeout=_TICK)
            advance(job.finished())
            _get(ray, done)
    finally:
        ray.shutdown()


def require_cluster(address: str) -> Any:
    """Return Ray, or say what is missing, before anything is begun.

    Raises:
        ConfigError: Ray is not installed.
        DataError: nobody answers at that address.
    """
    ray = _load()
    try:
        _knock(address)
    except OSError as error:
        raise _no_cluster(address, error) from error
    return ray


def _no_cluster(address: str, error: Exception) -> DataError:
    return DataError(f"no Ray cluster at {address!r} ({' '.join(str(error).split())[:200]}); ray status tells")


def _knock(address: str) -> None:
    """Raise `OSError` at once where Ray would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdecimal() and host:
        socket.create_connection((host, int(port)), timeout=5).close()


def _load() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ConfigError("a cluster needs Ray; pip install 'momentret[ray]'") from error
    return ray


def _get(ray: Any, tasks: list[Any]) -> None:
    try:
        ray.get(tasks)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise DataError(f"a shard was given up: {' '.join(str(error).split())[:200]}; run it again to go on") from error


def _work(job: Job, shard: str, folder: str) -> int:
    os.chdir(folder)  # paths are as they were given: ids of videos may come from them
    return job.run(shard)

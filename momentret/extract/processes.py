"""The shards of an extraction, each in a process of this machine that is started again when it dies."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from momentret.errors import DataError, MomentretError
from momentret.extract.shards import Advance, Job, shards

__all__ = ["run_in_processes"]

_SPAWN = multiprocessing.get_context("spawn")  # forking a process that has threads is not safe
_TICK = 0.5
"""Seconds between looks at how far the ledger is."""
_PATIENCE = 10
"""Deaths of one shard's processes while no shard finishes a video."""
logger = logging.getLogger(__name__)


class _Worker:
    """A shard and the process that does it now."""

    def __init__(self, job: Job, shard: str) -> None:
        self.job, self.shard, self.deaths = job, shard, 0
        self.start()

    def start(self) -> None:
        self.answer, end = _SPAWN.Pipe(duplex=False)
        self.process: SpawnProcess = _SPAWN.Process(target=_work, args=(self.job, self.shard, end))
        self.process.start()
        end.close()

    def ended_well(self) -> bool:
        """Tell whether the process has done its shard; raises what it could not help."""
        self.process.join()
        try:
            said = self.answer.recv() if self.answer.poll() else None
        except EOFError:  # killed while it spoke
            said = None
        self.answer.close()
        if isinstance(said, MomentretError):
            raise said
        return said is not None and self.process.exitcode == 0

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.answer.close()


def run_in_processes(job: Job, count: int, advance: Advance = lambda finished: None) -> None:
    """Do all shards of a job, one process each; those that die are started again and go on where they were.

    Leaving early, by an error or Ctrl-C, ends the processes; so does the death of this one.

    Args:
        job: what to do. Afterwards the ledger has every video.
        count: of shards and processes.
        advance: told about progress.

    Raises:
        MomentretError: from a shard: what doing it again would not help.
        DataError: processes die and nothing gets finished.
    """
    running: list[_Worker] = []
    finished = 0
    try:
        running.extend(_Worker(job, shard) for shard in shards(count))
        while running:
            wait([worker.process.sentinel for worker in running], timeout=_TICK)
            before, finished = finished, job.finished()
            advance(finished)
            for worker in list(running):
                worker.deaths = 0 if finished > before else worker.deaths
                if worker.process.is_alive():
                    continue
                if worker.ended_well():
                    running.remove(worker)
                else:
                    _restart(worker)
    finally:
        for worker in running:
            worker.stop()


def _restart(worker: _Worker) -> None:
    code = worker.process.exitcode
    worker.deaths += 1
    if worker.deaths >= _PATIENCE:
        raise DataError(
            f"the process of shard {worker.shard} died {worker.deaths} times while no video got finished, the last "
            f"time with status {code}; free some memory, or use fewer processes"
        )
    logger.warning("the process of shard %s died with status %s; started again", worker.shard, code)
    worker.start()


def _work(job: Job, shard: str, answer: Connection) -> None:
    """Do a shard in a process of its own, and say how that ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        answer.send(job.run(shard))
    except MomentretError as error:
        answer.send(error)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

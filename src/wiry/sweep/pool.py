"""Run trials on local processes, one compute thread each.

Workers die with the program that made them.
"""

import concurrent.futures
import concurrent.futures.process
import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from wiry.core.errors import UserError
from wiry.sweep.trial import Trial, run_trial, use_one_thread
from wiry.train.stages import Session


class Pool:
    """A pool of worker processes; `run` blocks the calling thread until its trial is done.

    Args:
        num_workers: how many trials run at once; 0 runs them in this process, one after another.
        session: how to train (device, checkpoints).
    """

    def __init__(self, num_workers: int, session: Session | None = None) -> None:
        if num_workers < 0:
            raise UserError(f"--workers must be 0 or more, got {num_workers}")
        self.num_workers, self.session = num_workers, session or Session()
        self.active: dict[Path, float] = {}
        self.num_done = 0
        self.stopping = threading.Event()
        self._executor: concurrent.futures.ProcessPoolExecutor | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> "Pool":
        if self.num_workers:
            self._executor = concurrent.futures.ProcessPoolExecutor(
                self.num_workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start_worker,
                initargs=(os.getpid(),),
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._executor is not None:
            if error is not None:
                self.kill()
            self._executor.shutdown(wait=error is None, cancel_futures=True)

    def run(self, trial: Trial) -> list[dict[str, Any]]:
        """Run one trial and return its measurements.

        Raises:
            UserError: if the search is being stopped, or a worker process died.
        """
        if self.stopping.is_set():
            raise UserError("the search was stopped")
        root = trial.run().root
        with self._lock:
            self.active[root] = time.monotonic()
        try:
            if self._executor is None:
                return run_trial(trial, self.session)
            with _interrupts_held():
                future = self._executor.submit(run_trial, trial, self.session)
            return future.result()
        except concurrent.futures.process.BrokenProcessPool as error:
            raise UserError(
                "a worker process was killed (out of memory?); the same command continues"
            ) from error
        finally:
            with self._lock:
                self.active.pop(root, None)
                self.num_done += 1

    def kill(self) -> None:
        """End the worker processes at once.

        What they trained is on disk up to the last checkpoint.
        """
        self.stopping.set()
        for process in list(getattr(self._executor, "_processes", {}).values()):
            process.terminate()

    def run_parallel(self, jobs: list[Callable[[], Any]]) -> list[Any]:
        """Call the jobs in threads of their own and return their results in order.

        The jobs mostly wait for the worker processes; without any they run one after another. The
        first error, Ctrl-C included, ends the workers and is raised.
        """
        if self._executor is None:
            return [job() for job in jobs]
        with concurrent.futures.ThreadPoolExecutor(max(1, len(jobs))) as threads:
            futures = [threads.submit(job) for job in jobs]
            try:
                for future in concurrent.futures.as_completed(futures):
                    future.result()
                return [future.result() for future in futures]
            except BaseException:
                self.kill()
                raise


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back in this thread; a process started meanwhile inherits that from birth."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    use_one_thread()
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()


def _die_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)

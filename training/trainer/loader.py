"""Batches in order, made in worker processes while the networks train."""

import gc
import signal
import traceback
from collections.abc import Generator
from multiprocessing import active_children

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from derain.errors import DerainError
from training.model.derain_model import Batch
from training.trainer.distributed import Processes

_READY_AHEAD = 16  # batches, of all workers together
_MAX_WORKERS = 16
_MAX_STEP_S = 20  # after which a worker that is to end does

Sample = tuple[Tensor, ...]


class BatchError(DerainError):
    """A batch that could not be made."""


class _Guarded(Dataset[Sample | DerainError]):
    """Hands an error over as a value: what crosses from a worker as an exception comes as a traceback."""

    def __init__(self, samples: Dataset[Sample]) -> None:
        self.samples = samples

    def __getitem__(self, index: int) -> Sample | DerainError:
        try:
            return self.samples[index]
        except DerainError as error:
            return error


def batches(
    samples: Dataset[Sample], batch: int, steps: range, processes: Processes, workers: int
) -> Generator[Batch, None, None]:
    """This process's share of the batch of each step; step `s` has samples `s * batch` and on.

    So the samples of a step depend neither on the number of workers nor on that of processes.
    Raises what a sample raises, and BatchError when a worker dies.
    """
    share = processes.share_of(batch)
    loader = DataLoader(
        _Guarded(samples),
        batch_sampler=[[step * batch + place for place in share] for step in steps],
        num_workers=workers,
        collate_fn=_collate,
        prefetch_factor=max(2, _READY_AHEAD // workers) if workers else None,
        pin_memory=processes.device.type == "cuda",
        worker_init_fn=_settle_worker,
    )
    made = iter(loader)
    children = active_children()
    try:
        while True:
            try:
                outcome = next(made, None)
            except RuntimeError as error:  # what a loader raises when a worker has been killed, too
                traceback.clear_frames(error.__traceback__)  # they keep the loader, and so its workers
                if all(child.is_alive() for child in children):
                    raise
                raise BatchError(
                    "a process that makes samples has died, perhaps for want of memory (fewer --workers "
                    "need less); the same command goes on from the last checkpoint"
                ) from error
            if outcome is None:
                return
            if isinstance(outcome, DerainError):
                raise outcome
            yield outcome
    finally:
        del made  # ends the workers now; left to the garbage collector, they are waited for in vain


def default_workers(processes: Processes) -> int:
    """As many as keep the network from waiting.

    One core makes 70 samples of the base recipe a second and trains on 20: on a CPU two cores in five are
    more than enough. On a GPU the cores have nothing else to do.
    """
    wanted = processes.cores if processes.device.type == "cuda" else 2 * processes.cores // 5
    return min(_MAX_WORKERS, max(1, wanted))


def _collate(samples: list[Sample | DerainError]) -> Batch | DerainError:
    for sample in samples:
        if isinstance(sample, DerainError):
            return sample
    return tuple(default_collate(samples))


def _settle_worker(_worker: int) -> None:
    gc.freeze()  # what the parent left behind is its own to clean up: here it has lost its threads
    cv2.setNumThreads(0)  # the other cores are the network's
    torch.set_num_threads(1)
    # Ctrl+C and the SIGTERM of a machine that is taken away go to all processes: the parent still
    # needs this one to end its step, and ends it then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: signal.alarm(_MAX_STEP_S))

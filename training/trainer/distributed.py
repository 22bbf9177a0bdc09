"""One process, many processes, many machines: the same code, started by torchrun or not.

    torchrun --nproc-per-node 2 training/run.py smoke

Every process makes its share of each batch and adds its gradients to those of the others, so all
have the same weights at every step. The main process alone reads and writes the run folder, which
it locks, and needs to be the only one that can. On GPUs the processes talk by NCCL, one process a
GPU, on CPUs by gloo. NCCL and training on GPUs have never been run by the authors, who had none.
"""

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from derain.errors import DerainError

T = TypeVar("T")

# The others wait in the next step while the main one validates, and at the end while it exports
# and scores. Whether a process still lives is torchrun's business; a closed connection shows at once.
MAX_WAIT = timedelta(days=1)
_CPU = torch.device("cpu")
_LOCK = "lock"


class ProcessError(DerainError):
    """Processes that cannot work together, or no longer can."""


class SaidByMainError(DerainError):
    """Ends the other processes on an error that the main process reports."""


class _ExitedError(DerainError):
    """A command that has said why it ends, as argparse does, with its exit status."""


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this one is. All must call the methods in the same order."""

    rank: int = 0
    count: int = 1
    on_this_machine: int = 1
    device: torch.device = _CPU

    @property
    def cores(self) -> int:
        """Of the machine, for each process on it."""
        return max(1, len(os.sched_getaffinity(0)) // self.on_this_machine)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def share_of(self, batch: int) -> range:
        """The patches of a batch that this process takes."""
        if batch % self.count:
            raise self.alike(
                ProcessError(
                    f"a batch of {batch} patches cannot be divided among {self.count} processes; "
                    f"choose another --batch or another number of processes"
                )
            )
        share = batch // self.count
        return range(self.rank * share, (self.rank + 1) * share)

    def add_up(self, tensors: list[Tensor]) -> None:
        """Replaces each tensor by its sum over all processes.

        As one tensor, always laid out in the same way, so that the order in which floats are added
        never changes and a resumed run ends with the bits of an unbroken one. That is why this is
        not DistributedDataParallel: it lays its buckets out anew after the first step that it sees.
        """
        if self.count == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with _in_touch(self):
            dist.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    @contextmanager
    def together(self) -> Iterator[None]:
        """No process goes on before all have done the block. An error of one ends all.

        The main process reports the error. Output of the block, such as argparse's before it exits, is
        printed once on each machine.
        """
        if self.count == 1:
            yield
            return
        mine: DerainError | None = None
        with _printed(self.rank % self.on_this_machine == 0):
            try:
                yield
            except DerainError as error:
                mine = error
            except OSError as error:
                mine = ProcessError(str(error))
            except SystemExit as exited:
                mine = _ExitedError(exited.code)
        everyones: list[DerainError | None] = [None] * self.count
        with _in_touch(self):
            dist.all_gather_object(everyones, mine)
        first = next((each for each in everyones if each is not None), None)
        if isinstance(first, _ExitedError):
            raise SystemExit(*first.args)
        if first is not None:
            raise self.alike(first)

    def broadcast(self, value: T) -> T:
        """The main process's, on every one."""
        if self.count == 1:
            return value
        values = [value]
        with _in_touch(self):
            dist.broadcast_object_list(values)
        return values[0]

    def alike(self, error: DerainError) -> DerainError:
        """The error to raise in this process: itself in the main one, SaidByMainError in the others."""
        return error if self.is_main else SaidByMainError(str(error))

    def barrier(self) -> None:
        if self.count > 1:
            with _in_touch(self):
                dist.barrier()


@contextmanager
def alone_in(run_folder: Path) -> Iterator[None]:
    """Holds the folder's lock; raises ProcessError where another process does.

    A POSIX lock: it ends with the process that took it, however that ends, and workers that were
    forked and outlive it for a moment do not hold it.
    """
    path = run_folder / _LOCK
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
        lock = path.open("a+")
    except OSError as error:
        raise ProcessError(f"{path} cannot be written: {error.strerror}") from error
    with lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:  # which of them is up to the file system
            raise ProcessError(
                f"{run_folder} is being trained by {path.read_text().strip() or 'another process'} already; "
                f"wait for it, stop it, or choose another name"
            ) from error
        except OSError as error:
            raise ProcessError(f"{path} cannot be locked: {error.strerror}") from error
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {platform.node()}\n")
        lock.flush()
        yield


@contextmanager
def joined() -> Iterator[Processes]:
    """The processes that torchrun started, or this one alone."""
    if not dist.is_torchelastic_launched():
        yield current()
        return
    if torch.cuda.is_available():
        local_rank, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local_rank >= gpus:
            raise ProcessError(
                f"{local_rank + 1} processes or more on {gpus} GPUs; give --nproc-per-node {gpus}"
            )
        torch.cuda.set_device(local_rank)
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    store, rank, count = next(rendezvous("env://"))
    if os.environ["LOCAL_WORLD_SIZE"] == os.environ["WORLD_SIZE"]:
        # After a restart (--max-restarts) the store still has the addresses of the dead, and torch
        # 2.13 tries those. On several machines the number of restarts is not the same for all.
        store = PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    dist.init_process_group(backend, timeout=MAX_WAIT, store=store, rank=rank, world_size=count)
    processes = current()
    yield processes
    # Left without a goodbye when something went wrong: there may be nobody to say it to.
    processes.barrier()  # without it, leaving sometimes aborts
    dist.destroy_process_group()


def current() -> Processes:
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
    if not dist.is_initialized():
        return Processes(device=device)
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    return Processes(dist.get_rank(), dist.get_world_size(), local, device)


@contextmanager
def _printed(really: bool) -> Iterator[None]:
    if really:
        yield
        return
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


@contextmanager
def _in_touch(processes: Processes) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # what gloo and NCCL raise when a connection closes or times out
        raise ProcessError(
            f"process {processes.rank} of {processes.count} has lost touch with another one, which "
            f"says why if it can; the same command goes on from the last checkpoint"
        ) from error

"""A bulk run on Ray: actors on all machines of a cluster, each with an engine and a pipeline of its own.

Ray Data hands out images in small batches, starts actors anew that die, and gives what they had in work to
others. What makes that safe is not Ray but the order of writing (`derain.bulk.journal`): an image that is
derained twice has the same bytes and one row, and one that is there already is not derained again.
"""

import json
import logging
import os
import signal
import socket
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from derain.bulk import storage
from derain.bulk.journal import Journal
from derain.bulk.pipeline import Pipeline
from derain.bulk.plan import Make
from derain.bulk.rows import Item, Row, Rows
from derain.command.report import Status
from derain.command.work import ResultOptions
from derain.errors import DerainError
from derain.inference.engine import Engine
from derain.inference.resources import usable_cores, usable_memory
from derain.inference.sessions import Provider
from derain.manifest import MANIFEST_NAME, load_manifest
from derain.memory import give_memory_back

try:
    import ray
    import ray.data
    from ray.autoscaler.sdk import request_resources
    from ray.exceptions import RayError
except ModuleNotFoundError as error:
    wanted = "pip install 'derain[ray]'"
    raise ModuleNotFoundError(f"Ray is not installed: {wanted}", name="ray") from error

# Images that an actor is given at once. What an actor had when it died is looked at again by another.
_BATCH, _GPU_BATCH = 16, 128
_BATCHES_PER_WORKER = 4  # at least, where there are enough images, so that all end at about the same time

_RETRIES = 1  # of a batch whose actor died; then of each of its images alone, which after that has failed
_SHARE_OF_MEMORY = 0.4  # of a machine's, for images in work of all its actors
_OBJECT_STORE_BYTES = 256 * 1024**2  # of a cluster started here: names and rows go through it, no images
_POLL_S = 1.0
_CONNECT_S = 30
_START_S = 180  # a cluster of this machine takes six


class ClusterError(DerainError):
    """A cluster that cannot be had, or not what was asked of it."""


@dataclass(frozen=True)
class Workers:
    """What each actor takes, and how many there are to be."""

    address: str | None = None  # None: a cluster of this machine alone, for this run
    count: int | None = None  # None: as many as there is room for
    cores: int = 1
    gpu_share: float = 0.0  # of a GPU; 0: the CPU
    provider: Provider = Provider.CPU
    wait_s: float = 0.0  # for a machine that has room for one

    @property
    def needs(self) -> dict[str, float]:
        return {"CPU": self.cores} | ({"GPU": self.gpu_share} if self.gpu_share else {})


def derain_on_ray(
    folder: Path, wanted: ResultOptions, make: Make, workers: Workers, items: Sequence[Item], journal: Journal
) -> Rows:
    """A row of each item, as they come to be done. Raises ClusterError.

    Images whose worker dies again and again are tried once more one by one: so one that takes it down with
    it fails alone.
    """
    with _connected(workers), _marked(items, journal) as marks:
        job = _Job(ray.put(_read_model(folder)), wanted, make, journal.report, marks, workers)
        missing = {item.source: item for item in items}
        for batch in (_GPU_BATCH if workers.gpu_share else _BATCH, 1):
            if missing:
                with closing(_run(job, list(missing.values()), batch)) as rows:
                    for row in rows:
                        if missing.pop(row.source, None):
                            yield row
        for item in missing.values():
            reason = f"its worker died {_RETRIES + 1} times at it, as for want of memory"
            row = Row(item.source, Status.FAILED, item.target, error=reason).now()
            journal.add([row])
            yield row


@dataclass(frozen=True)
class _Job:
    """The task of every actor."""

    model: Any  # a reference to the files of its folder: wherever an actor is, it has the driver's model
    wanted: ResultOptions
    make: Make
    report: str
    marks: tuple[str, ...]  # files that are there if disks are shared
    workers: Workers


class _Worker:
    """An actor."""

    def __init__(self, job: _Job) -> None:
        give_memory_back()
        for mark in job.marks:
            if storage.size(mark) is None:
                where = f"{Path(mark).parent} on {ray.util.get_node_ip_address()}"
                raise ClusterError(f"{where} is not the driver's disk: name a shared one, or a bucket")
        workers = job.workers
        with tempfile.TemporaryDirectory(prefix="derain-model-") as folder:
            for name, data in ray.get(job.model).items():
                Path(folder, name).write_bytes(data)
            engine = Engine(Path(folder), workers.provider, workers.cores)
        share = min(1.0, workers.cores / usable_cores())
        most_bytes = int(usable_memory() * _SHARE_OF_MEMORY * share)
        self._pipeline = Pipeline(
            engine, job.wanted, job.make, Journal(job.report), most_bytes, cores=workers.cores
        )

    def __call__(self, batch: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        items = [Item(**json.loads(text)) for text in batch["item"]]
        return {"row": [json.dumps(row.to_dict()) for row in self._pipeline.run(items)]}


def _run(job: _Job, items: Sequence[Item], most: int) -> Rows:
    """Rows of what is done; nothing of images whose workers died too often."""
    import pyarrow

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1
    workers = job.workers
    count = workers.count or _room(workers)
    size = max(1, min(most, len(items) // (count * _BATCHES_PER_WORKER)))
    texts = [json.dumps(asdict(item)) for item in items]
    tables = [pyarrow.table({"item": texts[at : at + size]}) for at in range(0, len(texts), size)]
    with warnings.catch_warnings(action="ignore"):  # the last two are to get other names
        rows = ray.data.from_arrow(tables).map_batches(
            _Worker,
            batch_size=None,
            fn_constructor_args=(job,),
            compute=ray.data.ActorPoolStrategy(size=min(count, len(tables))),
            num_cpus=workers.cores,
            num_gpus=workers.gpu_share,
            max_restarts=-1,
            max_task_retries=_RETRIES,
        )
    try:
        for batch in rows.iter_batches(batch_size=None, prefetch_batches=0):
            yield from (Row.from_dict(json.loads(text)) for text in batch["row"])
    except (RayError, ray.data.exceptions.UserCodeException) as error:
        raise ClusterError(f"the workers do not start: {_last_words(error)}") from error


def _last_words(error: Exception) -> str:
    """The message of an error of another process, without its traceback."""
    text = f"{error}\n{error.__cause__ or ''}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line.split("Error: ", 1)[1] for line in lines if "Error: " in line]
    return (named or lines or [type(error).__name__])[-1]


@contextmanager
def _connected(workers: Workers) -> Iterator[None]:
    """To the cluster, which has room for a worker. Signals stay ours: Ray would take some of them."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Else it warns that actors do not outlive the model they are given, which is the driver's, nor need they.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    address = workers.address or os.environ.get("RAY_ADDRESS")
    here: dict[str, Any] = {"num_cpus": usable_cores(), "object_store_memory": _OBJECT_STORE_BYTES}
    taken = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.getsignal(number) for number in taken}
    if address:
        _check_there(address)
    try:
        with _within(_START_S):
            ray.init(
                address or "local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                **({} if address else here),
            )
    except Exception as error:  # Ray raises what its processes do, or a plain Exception
        where = f"the cluster at {address} cannot be reached" if address else "no cluster can be started here"
        raise ClusterError(f"{where}: {str(error).splitlines()[0]}") from error
    for number, handler in handlers.items():
        signal.signal(number, handler)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # failures are in the report
    try:
        _await_room(workers)
        yield
    finally:
        ray.shutdown()


def _check_there(address: str) -> None:
    """Raises ClusterError where nobody listens: Ray would ask for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():  # `auto` and the like
        return
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ClusterError(f"the cluster at {address} cannot be reached: {reason}") from error


@contextmanager
def _within(seconds: int) -> Iterator[None]:
    """Raises TimeoutError after that: where one of its processes dies while starting, Ray waits for ever."""

    def end(*_: object) -> None:
        raise TimeoutError(f"it has not started within {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _await_room(workers: Workers) -> None:
    """Raises ClusterError where no machine has room for a worker, nor comes to have it."""
    deadline = time.monotonic() + workers.wait_s
    while not _room(workers):
        if time.monotonic() >= deadline:
            asked = " and ".join(f"{amount:g} {name}" for name, amount in workers.needs.items())
            has = "; ".join(_words(node) for node in _machines())
            raise ClusterError(f"no machine of the cluster has {asked} for a worker; it has {has}")
        request_resources(bundles=[workers.needs])  # which makes an autoscaler start one
        time.sleep(_POLL_S)


def _room(workers: Workers) -> int:
    """How many workers all machines have room for together."""
    return sum(
        int(min(node.get(name, 0) / amount for name, amount in workers.needs.items())) for node in _machines()
    )


def _machines() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _words(node: Mapping[str, float]) -> str:
    return ", ".join(f"{node.get(name, 0):g} {name}" for name in ("CPU", "GPU"))


@contextmanager
def _marked(items: Iterable[Item], journal: Journal) -> Iterator[tuple[str, ...]]:
    """Files on the disks that actors write to, while they do: one who does not see them has other disks."""
    target = next(iter(items)).target
    name = f".{uuid.uuid4().hex[:12]}.unfinished"
    folders = (target.rpartition("/")[0], journal.folder)
    marks = tuple(storage.join(folder, name) for folder in folders if not storage.is_remote(folder))
    for mark in marks:
        storage.write(mark, b"")
    try:
        yield marks
    finally:
        for mark in marks:
            storage.remove(mark)


def _read_model(folder: Path) -> dict[str, bytes]:
    names = [MANIFEST_NAME, *(file.name for file in load_manifest(folder).files)]
    return {name: (folder / name).read_bytes() for name in names}

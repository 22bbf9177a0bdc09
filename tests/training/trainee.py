"""Training in processes of their own, that can be killed.

As a command, `python -m tests.training.trainee TASK`, it does what a Task says; TASK is a file.
"""

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from derain.errors import DerainError
from tests.conftest import ROOT
from training.recipes import Recipe
from training.trainer.distributed import joined
from training.trainer.loop import Execution, train
from training.trainer.run_log import Row
from training.trainer.signals import Interrupted


@dataclass(frozen=True)
class Task:
    recipe: Recipe
    run_folder: Path
    execution: Execution
    dawdle_s: float = 0.0  # at each validation: time for those who watch, to kill it in the middle


def first_weight(network: nn.Module) -> Mapping[str, float]:
    """A score that tells one network from another."""
    return {"psnr": float(next(network.parameters()).flatten()[0])}


def grey(network: nn.Module) -> list[Row]:
    image = np.full((32, 48, 3), 128, dtype=np.uint8)
    return [Row("grey", image, image, image)]


class Trainee:
    """A training that has been started; see `errors` for what it printed."""

    def __init__(self, task: Task, processes: int = 1, restarts: int = 0) -> None:
        self.folder = task.run_folder
        self.folder.mkdir(parents=True, exist_ok=True)
        for stale in self.folder.glob("pid-*"):
            stale.unlink()
        path = self.folder / "task.pickle"
        path.write_bytes(pickle.dumps(task))
        torchrun = [
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={processes}",
            f"--max-restarts={restarts}",
        ]
        command = [sys.executable, *(torchrun if processes > 1 else [])]
        self.log = self.folder / "errors.txt"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "-m", "tests.training.trainee", str(path)],
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stderr=log,
            )

    def finish(self) -> int:
        """Its exit status."""
        try:
            return self.process.wait(timeout=120)
        finally:
            self.process.kill()

    @property
    def errors(self) -> str:
        return self.log.read_text()

    def wait_for_step(self, step: int) -> None:
        """Until it has logged that step."""
        stats = self.folder / "stats.jsonl"
        self.wait_until(lambda: stats.exists() and f'"step": {step},' in stats.read_text())

    def wait_until(self, has_come: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not has_come():
            assert self.process.poll() is None, self.errors
            assert time.monotonic() < deadline, self.errors
            time.sleep(0.002)

    def pid(self, rank: int) -> int:
        return int((self.folder / f"pid-{rank}").read_text())


def main(path: Path) -> int:
    task: Task = pickle.loads(path.read_bytes())

    def validate(network: nn.Module) -> Mapping[str, float]:
        time.sleep(task.dawdle_s)
        return first_weight(network)

    try:
        with joined() as processes:
            (task.run_folder / f"pid-{processes.rank}").write_text(str(os.getpid()))
            execution = replace(task.execution, threads=1)  # more would wait for one another in a spin
            train(task.recipe, task.run_folder, validate, grey, execution)
    except DerainError as error:
        print(f"process {processes.rank}: {error}", file=sys.stderr)
        return 1
    except Interrupted as interrupted:
        print(interrupted, file=sys.stderr)
        return interrupted.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

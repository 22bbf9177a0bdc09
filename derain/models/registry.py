"""The models in a folder, and how one of them gets to be served: promotion and rollback."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from derain.errors import DerainError, ModelError
from derain.manifest import MANIFEST_NAME, load_manifest
from derain.models.self_test import check_model
from derain.pointer import (
    DEFAULT_MODELS,
    POINTER_NAME,
    Choice,
    Pointer,
    check_is,
    current_choice,
    read_history,
)

_LOCK_NAME = ".serving.lock"
_UNFINISHED_NAME = ".serving.json.unfinished"
_MAX_WAIT_S = 10.0  # for somebody else's promotion, which takes milliseconds


class PromotionError(DerainError):
    """A model that is not to be promoted now, or one to roll back to that is not there."""


class Registry:
    """The models in a folder, and the pointer to the one that is served.

    Reading takes no lock and writes nothing, so that it works on a read-only disk.
    """

    def __init__(self, folder: Path = DEFAULT_MODELS) -> None:
        self.path = folder
        self.pointer = folder / POINTER_NAME

    def names(self) -> list[str]:
        """The folders that have a manifest."""
        if not self.path.is_dir():
            return []
        return sorted(
            path.name
            for path in self.path.iterdir()
            if not path.name.startswith(".") and (path / MANIFEST_NAME).is_file()
        )

    def folder(self, name: str) -> Path:
        """Raises ModelError, with the names that there are."""
        if name not in (names := self.names()):
            there = f"there are {', '.join(names)}" if names else "there is none"
            raise ModelError(f"no model {name!r} in {self.path}: {there}")
        return self.path / name

    def current(self) -> Choice:
        """What is to be served, verified against the folder.

        Raises ModelError where the pointer is missing or broken, or what it points to is not there,
        is no sound model folder, or is another model than the one that was promoted.
        """
        choice = current_choice(self.path)
        folder = self.folder(choice.model)
        check_is(choice, folder, load_manifest(folder))
        return choice

    def history(self) -> list[Choice]:
        """Oldest first, the last is current; raises ModelError where the pointer is missing or broken."""
        current_choice(self.path)  # raises
        return read_history(self.path)

    def rollback_target(self) -> Choice | None:
        """What `roll_back` would serve again; None: nothing was served before. Raises as `history` does."""
        served = _not_undone(self.history())
        return served[-2] if len(served) > 1 else None

    def promote(self, name: str, reason: str) -> Choice:
        """Puts a model in service, verified and tried out before.

        Raises ModelError for what is no sound model or a broken pointer, and PromotionError where it is
        served already, gives no reason, or the lock cannot be had.
        """
        if not reason.strip():
            raise PromotionError(f"why is {name} promoted? The history keeps the reason")
        sha256 = check_model(self.folder(name)).sha256
        with self._alone():
            history = read_history(self.path)
            if history and (history[-1].model, history[-1].sha256) == (name, sha256):
                raise PromotionError(f"{history[-1]} is served already")
            return self._append(history, _choice(name, sha256, reason.strip()))

    def roll_back(self) -> Choice:
        """To what was served before; once more, to what was served before that.

        Raises ModelError where that is not there any more or not as it was, and PromotionError where
        nothing was before, or the lock cannot be had.
        """
        with self._alone():
            history = self.history()
            left, target = history[-1], self.rollback_target()
            if target is None:
                first = _not_undone(history)[0]
                raise PromotionError(
                    f"nothing was served before {first}, promoted {first.at:%Y-%m-%d}: promote another model "
                    f"instead (there are {', '.join(self.names())})"
                )
            folder = self.folder(target.model)
            check_is(target, folder, check_model(folder))
            reason = f"back from {left}"
            return self._append(history, _choice(target.model, target.sha256, reason, rolls_back=True))

    def _append(self, history: list[Choice], choice: Choice) -> Choice:
        """Only under the lock. Once it is renamed, and the folder synced, it outlives a power cut."""
        text = Pointer(history=[*history, choice]).model_dump_json(indent=2)
        unfinished = self.path / _UNFINISHED_NAME
        with unfinished.open("wb") as file:
            file.write(text.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self.pointer)
        folder = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return choice

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Holds the lock, which ends with the process that took it, however that ends."""
        import fcntl  # Windows has none: models can be read there, not promoted

        # Not a POSIX lock: two threads of one process are two as well.
        with (self.path / _LOCK_NAME).open("a") as lock:
            deadline = time.monotonic() + _MAX_WAIT_S
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > deadline:
                        raise PromotionError(
                            f"{self.path / _LOCK_NAME} has been held by another promotion for "
                            f"{_MAX_WAIT_S:.0f} s: is it stuck?"
                        ) from error
                    time.sleep(0.01)
            yield


def find_model(text: str) -> Path:
    """The folder of a model: by its name among the models that come along, or by a path.

    Raises ModelError for a name that there is not, with those that there are.
    """
    registry = Registry()
    is_name = Path(text).name == text
    if is_name and (text in registry.names() or not text or not Path(text).is_dir()):
        return registry.folder(text)
    return Path(text)


def _choice(model: str, sha256: str, reason: str, rolls_back: bool = False) -> Choice:
    now = datetime.now(UTC).replace(microsecond=0)
    return Choice(model=model, sha256=sha256, at=now, reason=reason, rolls_back=rolls_back)


def _not_undone(history: list[Choice]) -> list[Choice]:
    """The choices that a rollback can lead to: each rollback takes the last one away."""
    served: list[Choice] = []
    for choice in history:
        if choice.rolls_back and len(served) > 1:
            served.pop()
        else:
            served.append(choice)
    return served

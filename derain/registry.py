"""Which model is served, and which were before: a pointer beside the model folders, with its history.

`models/serving.json` is a list of choices, oldest first; the last one is what is served. It is only ever
added to: going back is a choice as well. A model is named by its folder and pinned by the hash of its
ONNX file, so that another one in the same folder is noticed, never served by mistake.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from derain.errors import DerainError, ModelError
from derain.manifest import MANIFEST_NAME, Manifest, load_manifest
from derain.places import shipped
from derain.trial import check_model

DEFAULT_MODELS = shipped("models")
POINTER_NAME = "serving.json"

_LOCK_NAME = ".serving.lock"
_UNFINISHED_NAME = ".serving.json.unfinished"
_LONGEST_WAIT_S = 10.0  # for somebody else's promotion, which takes milliseconds


class PromotionError(DerainError):
    """A model that is not to be promoted now, or a way back that is not there."""


class Choice(BaseModel):
    """A model that was put in service."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(pattern=r"^\w[\w.-]*$")  # its folder's name
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")  # of its ONNX file
    at: AwareDatetime
    reason: str = Field(min_length=1)
    goes_back: bool = False  # to what was served before: the choice that it undoes is not one to go back to

    def __str__(self) -> str:
        return f"{self.model} {self.sha256[:12]}"


class _Pointer(BaseModel):
    """What is in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    history: list[Choice] = Field(min_length=1)


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
        choice = self.history()[-1]
        self._verify(choice, load_manifest(self.folder(choice.model)))
        return choice

    def history(self) -> list[Choice]:
        """Oldest first, the last is current; raises ModelError where the pointer is missing or broken."""
        if not self.pointer.is_file():
            raise ModelError(f"{self.pointer} is missing: no model has been promoted")
        return self._read()

    def promote(self, name: str, reason: str) -> Choice:
        """Puts a model in service, verified and tried out before.

        Raises ModelError for what is no sound model or a broken pointer, and PromotionError where it is
        served already, gives no reason, or the lock cannot be had.
        """
        if not reason.strip():
            raise PromotionError(f"why is {name} promoted? The history keeps the reason")
        sha256 = check_model(self.folder(name)).sha256
        with self._alone():
            history = self._read()
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
            served = _not_undone(history)
            if len(served) < 2:
                raise PromotionError(f"nothing was served before {served[-1]}: there is no way back")
            left, target = served[-1], served[-2]
            self._verify(target, check_model(self.folder(target.model)))
            reason = f"back from {left}"
            return self._append(history, _choice(target.model, target.sha256, reason, goes_back=True))

    def _verify(self, choice: Choice, manifest: Manifest) -> None:
        """Raises ModelError where what is in the folder now is not what was chosen."""
        found = manifest.sha256
        if found != choice.sha256:
            raise ModelError(
                f"{self.path / choice.model} is another model than the one that was promoted: "
                f"SHA-256 {found}, expected {choice.sha256}; put that one back, or promote this one"
            )

    def _read(self) -> list[Choice]:
        """Empty where there is no pointer yet."""
        try:
            data = self.pointer.read_bytes()
        except FileNotFoundError:
            return []
        try:
            return _Pointer.model_validate_json(data).history
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the whole file"
            raise ModelError(f"{self.pointer} cannot be read: {place}: {first['msg']}") from error

    def _append(self, history: list[Choice], choice: Choice) -> Choice:
        """Only under the lock. Once it is renamed, and the folder synced, it outlives a power cut."""
        text = _Pointer(history=[*history, choice]).model_dump_json(indent=2)
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
            deadline = time.monotonic() + _LONGEST_WAIT_S
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > deadline:
                        raise PromotionError(
                            f"{self.path / _LOCK_NAME} has been held by another promotion for "
                            f"{_LONGEST_WAIT_S:.0f} s: is it stuck?"
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


def _choice(model: str, sha256: str, reason: str, goes_back: bool = False) -> Choice:
    now = datetime.now(UTC).replace(microsecond=0)
    return Choice(model=model, sha256=sha256, at=now, reason=reason, goes_back=goes_back)


def _not_undone(history: list[Choice]) -> list[Choice]:
    """The choices that a way back leads over: each that goes back takes the last one away."""
    served: list[Choice] = []
    for choice in history:
        if choice.goes_back and len(served) > 1:
            served.pop()
        else:
            served.append(choice)
    return served

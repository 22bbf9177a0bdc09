"""Which model is served, and which were before: `models/serving.json`, as it is read.

It is a list of choices, oldest first; the last one is what is served. It is only ever added to: rolling back
is a choice as well. A model is named by its folder and pinned by its hash, so that another one in the same
folder is noticed, never served by mistake. `derain.models.registry` writes it.
"""

from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from derain.errors import ModelError
from derain.files import shipped
from derain.manifest import Manifest, load_manifest

DEFAULT_MODELS = shipped("models")
POINTER_NAME = "serving.json"


class Choice(BaseModel):
    """A model that was put in service."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(pattern=r"^\w[\w.-]*$")  # its folder's name
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")  # of its ONNX file
    at: AwareDatetime
    reason: str = Field(min_length=1)
    rolls_back: bool = False  # to what was served before: the choice that it undoes is not one to return to

    def __str__(self) -> str:
        return f"{self.model} {self.sha256[:12]}"


class Pointer(BaseModel):
    """What is in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    history: list[Choice] = Field(min_length=1)


def read_history(folder: Path) -> list[Choice]:
    """Oldest first, the last is current; empty where there is no pointer yet. Raises ModelError."""
    path = folder / POINTER_NAME
    try:
        return Pointer.model_validate_json(path.read_bytes()).history
    except FileNotFoundError:
        return []
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole file"
        raise ModelError(f"{path} cannot be read: {place}: {first['msg']}") from error


def current_choice(folder: Path) -> Choice:
    """What is served of the models in a folder; raises ModelError where the pointer is missing or broken."""
    history = read_history(folder)
    if not history:
        raise ModelError(f"{folder / POINTER_NAME} is missing: no model has been promoted")
    return history[-1]


def promoted_model(folder: Path = DEFAULT_MODELS) -> Path:
    """The model that is served: `derain`, the library and the service take it by default.

    Raises ModelError where no model was promoted, or another one is in its folder now.
    """
    choice = current_choice(folder)
    path = folder / choice.model
    check_is(choice, path, load_manifest(path))
    return path


def check_is(choice: Choice, folder: Path, manifest: Manifest) -> None:
    """Raises ModelError where what is in the folder now is not what was chosen."""
    if manifest.sha256 != choice.sha256:
        raise ModelError(
            f"{folder} is another model than the one that was promoted: "
            f"SHA-256 {manifest.sha256}, expected {choice.sha256}; put that one back, or promote this one"
        )

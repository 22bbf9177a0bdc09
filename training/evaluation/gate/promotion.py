"""Whether a candidate that passed the gate may be put in the place of what is served."""

from pathlib import Path

from derain.manifest import Manifest
from derain.models.registry import Registry
from training.evaluation.gate.scenes import GateError


def check_place(registry: Registry, folder: Path, candidate: Manifest, current: Manifest) -> None:
    """Raises GateError where the candidate would replace another model than it was compared with."""
    registry.folder(folder.resolve().name)
    if not registry.pointer.exists():
        return
    served = registry.history()[-1]
    if served.sha256 == candidate.sha256:
        raise GateError(f"{folder} is served already")
    if served.sha256 != current.sha256:
        raise GateError(
            f"{served} is served, but the candidate is compared with {current.name} "
            f"{current.sha256[:12]}: it can only be promoted against what it replaces"
        )

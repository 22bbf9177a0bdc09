"""What becomes of a picture."""

from dataclasses import dataclass
from typing import Generic

from derain.arrays import SamePicture


@dataclass(frozen=True)
class Derained(Generic[SamePicture]):
    """A picture that a model has seen."""

    picture: SamePicture
    rain_found: bool  # if not, it is the picture that was given
    evidence: float | None = None  # log-odds of rain above a dry picture's, where the model can tell

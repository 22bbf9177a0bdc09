"""Takes rain out of photographs and videos: `derain("photo.jpg").save("clean.jpg")`."""

import os
from typing import TYPE_CHECKING

__version__ = "0.1.0"  # of the package, the images and the documentation

# Since 1.29 onnxruntime reports each model it loads to its maker unless told not to before it is
# imported. What is derained, and with what, stays on the machine.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from derain.errors import DerainError
    from derain.library import DerainedImage, Derainer, derain, derain_video
    from derain.video.options import DerainedVideo

__all__ = ["DerainError", "DerainedImage", "DerainedVideo", "Derainer", "derain", "derain_video"]


def __getattr__(name: str) -> object:
    """What the library offers, at its first use: onnxruntime and OpenCV take half a second to load."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from derain import errors, library
    from derain.video import options

    homes = {"DerainError": errors, "DerainedVideo": options}
    return getattr(homes.get(name, library), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

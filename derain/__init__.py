"""Takes rain out of photographs."""

import os

__version__ = "0.1.0"  # of the package, the images and the documentation

# Since 1.29 onnxruntime reports each model it loads to its maker unless told not to before it is
# imported. What is derained, and with what, stays on the machine.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

"""Is the service in this container ready? `python -m serving.healthcheck` says so by its exit status."""

import os
import sys
from http.client import HTTPConnection, HTTPException

_TIMEOUT_S = 4


def ready() -> bool:
    """Asks /readyz on the private port, where there is one."""
    port = int(os.environ.get("DERAIN_PRIVATE_PORT") or 3000)
    try:
        connection = HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False


if __name__ == "__main__":
    sys.exit(not ready())

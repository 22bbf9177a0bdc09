"""Starts the service and derains one image through it: `make demo`.

    python scripts/demo.py examples/rain.jpg clean.jpg --host 127.0.0.1 --port 3000

The service goes on until Ctrl+C. The exit status is that of the service; 1 where no image came back.
"""

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

_TIMEOUT_S = 120

# `trust_env=False` below: a proxy that the environment names does not know this machine's localhost.


def main() -> int:
    options = _parse()
    address = f"http://localhost:{options.port}"
    serve = [sys.executable, "-m", "derain", "serve", "--host", options.host, "--port", str(options.port)]
    service = subprocess.Popen(serve)
    signal.signal(signal.SIGTERM, lambda *_: service.terminate())
    try:
        derained = _wait(service, address) and _derain(address, options.source, options.target)
        if not derained:
            service.terminate()
        return service.wait() or int(not derained)
    except KeyboardInterrupt:  # the service has heard it, too
        return service.wait()


def _wait(service: subprocess.Popen[bytes], address: str) -> bool:
    """Until the service is ready; false where it has ended before, with its own words."""
    while service.poll() is None:
        try:
            if httpx.get(f"{address}/readyz", timeout=1, trust_env=False).is_success:
                return True
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    return False


def _derain(address: str, source: Path, target: Path) -> bool:
    try:
        answer = httpx.post(
            f"{address}/v1/derain", content=source.read_bytes(), timeout=_TIMEOUT_S, trust_env=False
        )
        answer.raise_for_status()
        target.write_bytes(answer.content)
    except (httpx.HTTPError, OSError) as error:
        print(f"{source} was not derained: {error}", file=sys.stderr)
        return False
    print(
        f"{source} is derained: see {target}. The page is at {address}; Ctrl+C ends the service.", flush=True
    )
    return True


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Starts the service and derains one image through it.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=3000)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

"""`derain serve`: starts the HTTP service, which is the package `serving` on BentoML."""

import argparse
import errno
import os
import socket
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from derain.errors import DerainError

_USAGE = 2
_PACKAGES = Path(__file__).parent.parent  # where `serving` lies beside `derain`
_SERVICE = "serving.service:DerainService"

# What the extra `serve` brings.
_NEEDED = ("bentoml", "multipart", "opentelemetry", "prometheus_client", "pydantic_settings", "starlette")
_ENGINES = ("onnxruntime",)  # of the extras `cpu` and `gpu`

# The settings that are paths: the service is started in another folder than this one.
_PATHS = ("DERAIN_MODELS", "DERAIN_MODEL", "DERAIN_KEYS")


class StartError(DerainError):
    """A service that cannot be started as it was asked for."""


def main(arguments: list[str] | None = None) -> int:
    """Becomes the service, which ends by Ctrl+C or SIGTERM; returns 2 where it cannot start."""
    options = _parser().parse_args(arguments)
    try:
        _become_service(options.host, options.port)
    except (StartError, OSError) as error:
        print(f"derain: error: {error}", file=sys.stderr)
    return _USAGE


def _become_service(host: str, port: int) -> NoReturn:
    _check_installed()
    _check_free(host, port)
    environment = _environment(os.environ, port)
    command = [
        # -P: nothing in the folder that it is started in is taken for a package.
        *(sys.executable, "-P", "-m", "bentoml", "serve", _SERVICE, "--working-dir", str(_PACKAGES)),
        *("--host", host, "--port", str(port)),
    ]
    shown = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::1", "::") else host
    url = f"http://{shown}:{port}"
    print(f"Derain starts on {url}: open it and drop an image (Ctrl+C stops it)", file=sys.stderr)
    print(f"The interface for programs is described at {url}/docs", file=sys.stderr, flush=True)
    os.execve(sys.executable, command, environment)


def _check_installed() -> None:
    missing = [name for name in (*_NEEDED, *_ENGINES) if find_spec(name) is None]
    if missing:
        raise StartError(
            f"the service needs packages that are not installed ({', '.join(missing)}): "
            "pip install 'derain[cpu,serve]', or 'derain[gpu,serve]' for NVIDIA GPUs"
        )


def _check_free(host: str, port: int) -> None:
    """BentoML would end in a traceback."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as error:
        raise StartError(f"--host {host} is no address of this machine: {error.strerror}") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartError(f"port {port} is taken: choose another with --port") from error
        raise StartError(f"{host}:{port} cannot be listened on: {error.strerror}") from error


def _environment(given: Mapping[str, str], port: int) -> dict[str, str]:
    """BentoML keeps metrics in its home and clears them at each start, so each service has one of its own."""
    cache = Path(given.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = Path(given.get("BENTOML_HOME") or cache / "derain" / f"serve-{port}").absolute()
    home.mkdir(parents=True, exist_ok=True)
    paths = {name: str(Path(given[name]).absolute()) for name in _PATHS if given.get(name)}
    return {**given, **paths, "BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"}


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port from 1 to 65535")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="derain serve",
        description="Starts the HTTP service with its page. Its settings are environment variables.",
        epilog="Whoever reaches the port may call, unless DERAIN_KEYS names a file of keys.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s, this machine alone")
    parser.add_argument("--port", type=_port, default=3000, metavar="N", help="default: %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main())

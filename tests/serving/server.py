"""The service as it is run, for tests: `bentoml serve` in a process of its own."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx

from tests.conftest import ROOT, free_port, wait_until_ready

START_S = END_S = 60
OPERATOR = {"authorization": "Bearer of the operator"}


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    def said(self) -> str:
        return self.log.read_text()


@contextmanager
def started(model: Path | None, folder: Path, **settings: object) -> Iterator[Server]:
    """A server of our own, perhaps not ready yet; all of its processes end with it.

    Without a model it serves what is in the folder that `models` names.
    """
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DERAIN_")},
        "BENTOML_HOME": str(folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        **({"DERAIN_MODEL": str(model), "DERAIN_MODELS": str(model.parent)} if model else {}),
        **{f"DERAIN_{name.upper()}": str(value) for name, value in settings.items()},
    }
    command = [sys.executable, "-m", "bentoml", "serve", "serving.service:DerainService"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Server(process, port, folder / "log")
    finally:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the session that was started above
            process.wait()


@contextmanager
def serving(model: Path | None, folder: Path, **settings: object) -> Iterator[Server]:
    """A server of our own that is ready."""
    with started(model, folder, **settings) as server:
        wait_until_ready(f"http://127.0.0.1:{server.port}", server.process, server.log, START_S)
        yield server


def until(true: Callable[[], bool], longest_s: float = END_S) -> None:
    deadline = time.monotonic() + longest_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def assert_problem(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    detail = problem["detail"]
    assert isinstance(detail, str)
    return detail


def operator_key(folder: Path) -> Path:
    """A file of keys: an operator's, and a camera's, `of the camera`."""
    path = folder / "keys"
    path.write_text(
        f"operator {hashlib.sha256(b'of the operator').hexdigest()} admin\n"
        f"camera {hashlib.sha256(b'of the camera').hexdigest()}\n"
    )
    return path


class Served(Protocol):
    """By a process of its own, or in this one."""

    def client(self) -> httpx.Client: ...


@contextmanager
def traffic(
    server: Served, image: bytes, callers: int = 3, pause_s: float = 0
) -> Iterator[list[httpx.Response]]:
    """Images sent all the time; what was answered, once all have been."""
    answers: list[httpx.Response] = []
    over = threading.Event()

    def send() -> None:
        with server.client() as client:
            client.headers.update(OPERATOR)
            while not over.wait(pause_s):
                answers.append(client.post("/v1/derain", content=image))

    with ThreadPoolExecutor(callers) as pool:
        sending = [pool.submit(send) for _ in range(callers)]
        try:
            yield answers
        finally:
            over.set()
            for each in sending:
                each.result()

"""The service beside the engine called in a bare loop, in one run; and the service when too much is sent.

    python -m benchmarks.service models/base
    python -m benchmarks.service models/base --overload 60 --soak 2000

Both do the same work: a JPEG of 1280 x 720 decoded, derained, encoded again. The loop has as many threads as
the service has images in work. They take turns, so that a machine that is busy with other things is busy
for both.
"""

import argparse
import asyncio
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

import cv2
import httpx
import numpy as np

from derain.arguments import at_least
from derain.images.encoding import encode_photo
from derain.images.formats import FORMATS, JPEG
from derain.images.header import read_header
from derain.images.photo import decode_photo, derain_photo
from derain.images.plain import encode, read_image
from derain.inference.engine import Engine
from derain.inference.resources import usable_cores

ROOT = Path(__file__).parent.parent
WIDTH, HEIGHT = 1280, 720
_READY_WITHIN_S = 120
_IDLE_S = 4  # after which the engine has given its memory back


@dataclass
class Seen:
    """Of a load: what was answered, and how long it took."""

    statuses: Counter[int] = field(default_factory=Counter)
    accepted_s: list[float] = field(default_factory=list)
    probe_s: list[float] = field(default_factory=list)
    resident_bytes: int = 0


def rainy_jpeg() -> bytes:
    """A photograph of the repository at 1280 x 720, as a camera would write it."""
    scene = read_image(ROOT / "examples" / "rain.jpg")
    return encode(np.asarray(cv2.resize(scene, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)), JPEG)


def work(engine: Engine, data: bytes) -> bytes:
    photo = decode_photo(data, read_header(data))
    return encode_photo(derain_photo(engine.examine, photo).photo, photo.format)


def loop_rate(engine: Engine, data: bytes, callers: int, each: int) -> float:
    """Images a second without a service."""
    with ThreadPoolExecutor(callers) as pool:
        started = time.perf_counter()
        list(pool.map(lambda _: work(engine, data), range(callers * each)))
        return callers * each / (time.perf_counter() - started)


def service_rate(url: str, data: bytes, callers: int, each: int) -> float:
    """As many more callers as are in work, so that one is always waiting."""
    with ThreadPoolExecutor(2 * callers) as pool, httpx.Client(base_url=url, timeout=300) as client:
        started = time.perf_counter()
        for answer in pool.map(lambda _: client.post("/v1/derain", content=data), range(callers * each)):
            answer.raise_for_status()
        return callers * each / (time.perf_counter() - started)


def added_ms(engine: Engine, urls: list[str], data: bytes, images: int) -> list[float]:
    """What each service adds to one image alone, median: all the time but that of decode, infer and encode.

    The network's time is the one that the service states, for it varies by more than what is sought. That of
    decode and encode is the bare loop's: what they lose to something beside them is added, too. The client
    does little, on a connection that is open.
    """
    clients = [HTTPConnection(url.removeprefix("http://")) for url in urls]
    codec_ms = []
    rest_ms: list[list[float]] = [[] for _ in urls]  # without the network
    for _ in range(images):
        started = time.perf_counter()
        photo = decode_photo(data, read_header(data))
        decoded = time.perf_counter()
        derained = derain_photo(engine.examine, photo).photo
        inferred = time.perf_counter()
        encode_photo(derained, photo.format)
        codec_ms.append(1000 * (time.perf_counter() - inferred + decoded - started))
        for client, rest in zip(clients, rest_ms, strict=True):
            client.connect()
            started = time.perf_counter()
            client.request("POST", "/v1/derain", data)
            answer = client.getresponse()
            answer.read()
            whole_ms = 1000 * (time.perf_counter() - started)
            (infer_ms,) = re.findall(r"infer;dur=([\d.]+)", answer.headers["server-timing"])
            rest.append(whole_ms - float(infer_ms))
            client.close()  # else the service would, when others take long
    return [statistics.median(rest) - statistics.median(codec_ms) for rest in rest_ms]


async def overload(url: str, data: bytes, clients: int, seconds: float, rate: float) -> Seen:
    """So many clients together send `rate` images a second; refusals do not slow them down."""
    seen = Seen()
    over = time.perf_counter() + seconds
    limits = httpx.Limits(max_connections=clients + 4)
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits) as http:

        async def send(number: int) -> None:
            due = time.perf_counter() + number / rate
            while due < over:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                started = time.perf_counter()
                answer = await http.post("/v1/derain", content=data)
                seen.statuses[answer.status_code] += 1
                if answer.is_success:
                    seen.accepted_s.append(time.perf_counter() - started)
                due = max(due + clients / rate, time.perf_counter())

        async def probe() -> None:
            while time.perf_counter() < over:
                started = time.perf_counter()
                (await http.get("/readyz")).raise_for_status()
                seen.probe_s.append(time.perf_counter() - started)
                metrics = (await http.get("/metrics")).text
                resident = re.search(r"^derain_resident_bytes (\S+)$", metrics, re.MULTILINE)
                seen.resident_bytes = max(seen.resident_bytes, int(float(resident[1])) if resident else 0)
                await asyncio.sleep(0.25)

        await asyncio.gather(probe(), *(send(number) for number in range(clients)))
    return seen


def soak(url: str, count: int) -> tuple[int, int]:
    """Resident bytes of an idle service before and after so many images of all sizes and formats."""
    rng = np.random.default_rng(0)
    scene = read_image(ROOT / "examples" / "rain.jpg")
    bodies = [b"rain"]
    for number in range(48):
        width, height = (int(side) for side in rng.integers(1, (900, 600)))
        resized = cv2.resize(scene, (width, height), interpolation=cv2.INTER_AREA)
        known = [known for known in FORMATS if known.writable]
        bodies.append(encode(np.asarray(resized, np.uint8), known[number % len(known)]))

    def resident() -> int:
        time.sleep(_IDLE_S)
        metrics = httpx.get(f"{url}/metrics").text
        (found,) = re.findall(r"^derain_resident_bytes (\S+)$", metrics, re.MULTILINE)
        return int(float(found))

    def send(number: int) -> None:
        status = client.post("/v1/derain", content=bodies[number % len(bodies)]).status_code
        assert status in (200, 415), status

    with ThreadPoolExecutor(4) as callers, httpx.Client(base_url=url, timeout=300) as client:
        list(callers.map(send, range(4 * len(bodies))))
        before = resident()
        list(callers.map(send, range(count)))
    return before, resident()


@contextmanager
def service(model: Path, **settings: object) -> Iterator[str]:
    """The address of one of our own, ended with all that it started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "bentoml", "serve", "serving.service:DerainService"]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {
            "BENTOML_HOME": home,
            "BENTOML_DO_NOT_TRACK": "True",
            "DERAIN_MODELS": str(model.resolve().parent),
            "DERAIN_MODEL": str(model),
            **{f"DERAIN_{name.upper()}": str(value) for name, value in settings.items()},
        }
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait(url)
            yield url
        finally:
            process.terminate()
            process.wait()


def _wait(url: str) -> None:
    over = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < over:
        try:
            if httpx.get(f"{url}/readyz").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise SystemExit("the service did not start")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.service", description="The service beside the engine in a bare loop."
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=at_least(1), default=4, help="of both (default: %(default)s)")
    parser.add_argument("--pictures", type=at_least(1), default=4, help="a caller and round (default: 4)")
    parser.add_argument(
        "--overload", type=at_least(1), metavar="SECONDS", help="64 clients, twice the capacity"
    )
    parser.add_argument("--soak", type=at_least(1), metavar="IMAGES", help="what memory is left after them")
    options = parser.parse_args()
    data, callers = rainy_jpeg(), usable_cores()
    engine = Engine(options.model)
    with service(options.model) as url, service(options.model, monitor=False) as blind:
        _measure(engine, url, data, callers, 1)  # warm
        rates = [_measure(engine, url, data, callers, options.pictures) for _ in range(options.rounds)]
        for bare, served in rates:
            print(f"bare loop {bare:.2f} images/s, service {served:.2f}: {served / bare:.3f}")
        ratio = statistics.median(served / bare for bare, served in rates)
        capacity = statistics.median(served for _, served in rates)
        print(f"service / bare loop, median: {ratio:.3f}")
        monitored_ms, blind_ms = added_ms(engine, [url, blind], data, 3 * options.pictures)
        print(f"added to one image alone, median: {blind_ms:.1f} ms, with the monitor {monitored_ms:.1f} ms")
        if options.overload:
            seen = asyncio.run(overload(url, data, 64, options.overload, 2 * capacity))
            accepted = sorted(seen.accepted_s)
            print(f"64 clients, {options.overload} s, {2 * capacity:.1f} images/s: {dict(seen.statuses)}")
            print(f"accepted: median {statistics.median(accepted):.1f} s, p99 {_p99(accepted):.1f} s")
            print(f"/readyz meanwhile: p99 {1000 * _p99(sorted(seen.probe_s)):.0f} ms")
            print(f"resident memory, at most: {seen.resident_bytes / 1e6:.0f} MB")
        if options.soak:
            before, after = soak(url, options.soak)
            print(f"idle after 196 images: {before / 1e6:.0f} MB")
            print(f"after {options.soak} more: {after / 1e6:.0f} MB, {after / before:.2f} times that")
    engine.close()


def _measure(engine: Engine, url: str, data: bytes, callers: int, each: int) -> tuple[float, float]:
    return loop_rate(engine, data, callers, each), service_rate(url, data, callers, each)


def _p99(ordered: list[float]) -> float:
    return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]


if __name__ == "__main__":
    main()

"""`derain bulk --engine ray` on real clusters of this machine: workers, nodes and drivers are killed."""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from derain.bulk.cli import main
from derain.bulk.report import read_report
from derain.command.report import Status
from tests.conftest import ROOT, files_in
from tests.derain.bulk.conftest import write_many

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'derain[ray]'")

REPORT = "derain-bulk.csv"
IMAGES = 48
SOON_S = 600

pytestmark = pytest.mark.slow


# Nobody else may join, and nothing is reported to anybody. On a machine that is busy with other tests, the
# processes of Ray itself take long to start.
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_gcs_server_port_wait_time_s": str(SOON_S),
    "RAY_worker_register_timeout_seconds": str(SOON_S),
    "RAY_agent_register_timeout_ms": str(1000 * SOON_S),
    "PYTHONPATH": str(ROOT),
}

# A process of its own, for Ray reads what it is told by the environment once.
CLUSTER = """
import json, sys
from ray.cluster_utils import Cluster

cluster, nodes = Cluster(), int(sys.argv[1])
while len(cluster.list_all_nodes()) < nodes:
    try:
        cluster.add_node(num_cpus=1, include_dashboard=False)
    except Exception as error:  # Ray gives a node 30 s to start, which a busy machine may need more than
        print(error, file=sys.stderr)
cluster.wait_for_nodes(600)
raylets = [node.all_processes["raylet"][0].process.pid for node in (cluster.head_node, *cluster.worker_nodes)]
print(json.dumps([cluster.address, *raylets]), flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@contextmanager
def cluster_of(nodes: int, packages: Path) -> Iterator[list[Any]]:
    """Its address, and the raylets of its nodes, the head's first. Workers import from `packages` as well."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER, str(nodes)],
        env=ENVIRONMENT | {"PYTHONPATH": f"{ROOT}{os.pathsep}{packages}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.communicate(timeout=SOON_S)  # it ends with its input


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that workers of the cluster import from, for tests to put something into."""
    return tmp_path_factory.mktemp("packages")


@pytest.fixture(scope="module")
def cluster(packages: Path) -> Iterator[str]:
    """The address of a cluster of one node."""
    with cluster_of(1, packages) as (address, _):
        yield address


@pytest.fixture
def many(tmp_path: Path) -> Path:
    return write_many(tmp_path / "many", IMAGES)


def start(source: Path, target: Path, model: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "derain", "bulk", source, target, "--model", model, "--engine", "ray"]
    return subprocess.Popen(
        [*map(str, command), *options],
        cwd=ROOT,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_until(is_so: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + SOON_S
    while not is_so():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def results(target: Path) -> list[Path]:
    return list(target.glob("*.png"))


def descendants(pid: int) -> dict[int, str]:
    """Of a process: their command lines."""
    parents: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            found = re.search(r"^PPid:\s+(\d+)", status.read_text(), flags=re.MULTILINE)
        except OSError:
            continue
        parents[int(status.parent.name)] = int(found[1]) if found else 0
    below, grown = {pid}, True
    while grown:
        new = {child for child, parent in parents.items() if parent in below} - below
        below, grown = below | new, bool(new)
    return {each: command_line(each) for each in below - {pid}}


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def workers_of(pid: int) -> list[int]:
    return [each for each, line in descendants(pid).items() if line.startswith("ray::") and "Worker" in line]


def check_complete(source: Path, target: Path, expected: Path) -> None:
    """Every output is there once, with the bytes of the local path, and has its row with all figures."""
    names = {path.name for path in source.iterdir()}
    assert {name for name in files_in(target) if not name.endswith(".unfinished")} == names | {REPORT}
    rows = list(read_report(str(target / REPORT)))
    assert sorted(row.source.rpartition("/")[2] for row in rows) == sorted(names)
    for row in rows:
        assert row.status is Status.DERAINED
        assert row.target is not None
        assert row.bytes == Path(row.target).stat().st_size
        assert None not in (row.seconds, row.width, row.height, row.model, row.residual_rain)
        assert Path(row.target).read_bytes() == (expected / Path(row.target).name).read_bytes()


@pytest.fixture
def expected(many: Path, slow_model: Path, tmp_path: Path) -> Path:
    """What the local path makes of them."""
    folder = tmp_path / "local"
    assert main([str(many), str(folder), "--model", str(slow_model), "-q"]) == 0
    return folder


def test_a_worker_is_killed_and_then_the_driver(
    many: Path, slow_model: Path, expected: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    driver = start(many, target, slow_model, "--workers", "1")
    wait_until(lambda: len(results(target)) >= 3, driver)
    (worker,) = workers_of(driver.pid)
    os.kill(worker, signal.SIGKILL)
    seen = len(results(target))
    wait_until(lambda: len(results(target)) > seen + 3, driver)  # another one goes on
    left = descendants(driver.pid)
    driver.kill()
    driver.communicate()
    wait_until_gone(left)
    stamps = {path: path.stat().st_mtime_ns for path in results(target)}
    assert 0 < len(stamps) < IMAGES
    again = start(many, target, slow_model)
    _, said = again.communicate(timeout=SOON_S)
    assert again.returncode == 0, said
    assert f"{IMAGES - len(stamps)} derained, {len(stamps)} already there, 0 failed" in said
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items()), "done once"
    check_complete(many, target, expected)


def wait_until_gone(processes: dict[int, str]) -> None:
    """What a killed driver leaves ends by itself: the actors write nothing any more."""
    deadline = time.monotonic() + SOON_S
    while any(command_line(pid) == line for pid, line in processes.items() if "ray" in line):
        assert time.monotonic() < deadline, processes
        time.sleep(0.1)


def test_a_node_of_two_is_lost(many: Path, slow_model: Path, expected: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    with cluster_of(2, tmp_path) as (address, *raylets):
        driver = start(many, target, slow_model, "--address", address)

        def both_work() -> bool:
            return all(workers_of(pid) for pid in raylets) and len(results(target)) >= 4

        wait_until(both_work, driver)
        for pid in [raylets[1], *descendants(raylets[1])]:
            os.kill(pid, signal.SIGKILL)
        assert len(results(target)) < IMAGES
        _, said = driver.communicate(timeout=SOON_S)
    assert driver.returncode == 0, said
    assert f"{IMAGES} derained, 0 already there, 0 failed" in said
    check_complete(many, target, expected)


def test_an_image_that_takes_its_worker_down_fails_alone(
    many: Path, slow_model: Path, tmp_path: Path, packages: Path, cluster: str
) -> None:
    """A file system of another package, as fsspec finds them, whose file `07.png` ends whoever reads it."""
    package = packages
    (package / "deadly-1.dist-info").mkdir(parents=True)
    (package / "deadly-1.dist-info" / "METADATA").write_text("Name: deadly\nVersion: 1\n")
    (package / "deadly-1.dist-info" / "entry_points.txt").write_text(
        "[fsspec.specs]\ndeadly = deadly:DeadlyFileSystem\n"
    )
    (package / "deadly.py").write_text(
        "import os\n"
        "from fsspec.implementations.local import LocalFileSystem\n"
        "class DeadlyFileSystem(LocalFileSystem):\n"
        "    protocol = 'deadly'\n"
        "    local_file = False\n"
        "    @classmethod\n"
        "    def _strip_protocol(cls, path):\n"
        "        return super()._strip_protocol(path.removeprefix('deadly://'))\n"
        "    def unstrip_protocol(self, name):\n"
        "        return 'deadly://' + self._strip_protocol(name)\n"
        "    def cat_file(self, path, **options):\n"
        "        if path.endswith('07.png'):\n"
        "            os._exit(1)\n"
        "        return super().cat_file(path, **options)\n"
    )
    for path in sorted(many.iterdir())[12:]:
        path.unlink()
    target = tmp_path / "out"
    imports = {"PYTHONPATH": f"{ROOT}{os.pathsep}{package}"}
    done = run(f"deadly://{many}", target, slow_model, cluster, imports)
    assert done.returncode == 1, done.stderr
    assert "11 derained, 0 already there, 1 failed" in done.stderr
    assert "07.png: its worker died 2 times at it, as for want of memory" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(results(target)) == 11


def run(
    source: str | Path, target: Path, model: Path, address: str, variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "derain", "bulk", source, target, "--model", model, "--engine", "ray"]
    return subprocess.run(
        [*map(str, command), "--address", address],
        cwd=ROOT,
        env=ENVIRONMENT | (variables or {}),
        capture_output=True,
        text=True,
        timeout=SOON_S,
    )


def test_an_interrupted_driver_reports_and_goes_on(
    many: Path, slow_model: Path, expected: Path, tmp_path: Path, cluster: str
) -> None:
    target = tmp_path / "out"
    driver = start(many, target, slow_model, "--address", cluster)
    wait_until(lambda: len(results(target)) >= 3, driver)
    driver.send_signal(signal.SIGTERM)
    _, said = driver.communicate(timeout=SOON_S)
    assert driver.returncode == 143, said
    assert "derain: interrupted; the same command goes on with what is left" in said
    assert "Traceback" not in said
    statuses = [row.status for row in read_report(str(target / REPORT))]
    assert len(statuses) == IMAGES
    assert set(statuses) == {Status.DERAINED, Status.NOT_TRIED}
    assert main([str(many), str(target), "--model", str(slow_model), "-q"]) == 0  # here, as well as there
    check_complete(many, target, expected)


def test_workers_that_do_not_start_say_why(
    many: Path, model: Path, tmp_path: Path, packages: Path, cluster: str
) -> None:
    """As on machines where something is not installed."""
    spoiling = packages / "sitecustomize.py"
    spoiling.write_text("import sys\nsys.modules['onnxruntime'] = None\n")
    done = run(many, tmp_path / "out", model, cluster)
    spoiling.unlink()
    assert done.returncode == 2, done.stderr
    assert "the workers do not start: " in done.stderr
    assert "onnxruntime is not installed: pip install 'derain[cpu]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_no_machine_has_is_said_at_once(many: Path, model: Path, tmp_path: Path, cluster: str) -> None:
    driver = start(many, tmp_path / "out", model, "--address", cluster, "--threads", "999")
    _, said = driver.communicate(timeout=SOON_S)
    assert driver.returncode == 2
    assert "no machine of the cluster has 999 CPU for a worker; it has 1 CPU, 0 GPU" in said
    assert "Traceback" not in said


def test_a_cluster_that_is_not_there(many: Path, model: Path, tmp_path: Path) -> None:
    driver = start(many, tmp_path / "out", model, "--address", "127.0.0.1:1")
    _, said = driver.communicate(timeout=SOON_S)
    assert driver.returncode == 2, said
    assert "the cluster at 127.0.0.1:1 cannot be reached: Connection refused" in said
    assert "Traceback" not in said


def test_a_worker_with_another_disk_refuses(tmp_path: Path) -> None:
    from derain.bulk.cluster import ClusterError, Workers, _Job, _Worker
    from derain.bulk.plan import Make
    from derain.command.work import ResultOptions

    job = _Job(
        None, ResultOptions(1), Make("", None), "run.csv", (str(tmp_path / "gone" / "mark"),), Workers()
    )
    with pytest.raises(ClusterError, match=r"gone on .* is not the driver's disk: name a shared one"):
        _Worker(job)

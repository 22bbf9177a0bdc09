"""The quick loop stays quick: a test that takes long is marked slow, or fails."""

import pytest

pytest_plugins = ["pytester"]

TESTS = """
import subprocess, sys, time
import pytest

WORK = "import time\\nwhile time.process_time() < 0.15: pass"

def work():
    began_s = time.process_time()
    while time.process_time() < began_s + 0.15:
        pass

def test_short():
    pass

def test_works():
    work()

def test_has_it_done():
    subprocess.run([sys.executable, "-S", "-c", WORK], check=True)

def test_waits():
    time.sleep(0.15)

@pytest.mark.slow
def test_is_marked():
    work()

def test_fails_otherwise():
    work()
    assert 1 == 2
"""


@pytest.mark.slow
def test_an_unmarked_test_that_takes_long_fails(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its own work and that of its processes, not by waiting."""
    result = run(pytester, monkeypatch, squares_s=1000)
    result.assert_outcomes(passed=3, failed=3)
    for name in ("test_works", "test_has_it_done"):
        result.stdout.fnmatch_lines(
            f"{name} took 0.? s of processor time, and a test of the quick loop may take 0.1 s: "
            "make it faster, or mark it @pytest.mark.slow"
        )
    result.stdout.fnmatch_lines("E*assert 1 == 2")
    result.stdout.no_fnmatch_line("test_fails_otherwise took*")


@pytest.mark.slow
def test_a_slow_core_is_allowed_more(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(pytester, monkeypatch, squares_s=0.001)
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines("E*assert 1 == 2")


def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, squares_s: float) -> pytest.RunResult:
    """The tests above, which may take a tenth of a second of a core of that speed."""
    pytester.makeconftest("from tests.conftest import pytest_pyfunc_call")
    pytester.makeini("[pytest]\nmarkers = slow")
    pytester.makepyfile(TESTS)
    with monkeypatch.context() as patched:
        patched.setattr("tests.conftest.MAX_CPU_S", 0.1)
        patched.setattr("tests.conftest.SQUARES_S", squares_s)
        return pytester.runpytest_inprocess("-p", "no:cacheprovider")

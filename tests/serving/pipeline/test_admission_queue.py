import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derain.errors import ImageTooLargeError
from serving.errors import BusyError
from serving.operations.metrics import QUEUE_IMAGES, QUEUE_PIXELS, WORK_IMAGES, WORK_PIXELS
from serving.pipeline.admission_queue import AdmissionQueue


@pytest.fixture(scope="module", autouse=True)
def _gauges_as_before() -> Iterator[None]:
    """What these tests leave in work is nobody's: other tests of this process look at the same gauges."""
    gauges = (QUEUE_IMAGES, QUEUE_PIXELS, WORK_IMAGES, WORK_PIXELS)
    before = [gauge._value.get() for gauge in gauges]
    yield
    for gauge, value in zip(gauges, before, strict=True):
        gauge.set(value)


async def begin(queue: AdmissionQueue, pixels: int, order: list[str], name: str) -> None:
    await queue.wait(pixels)
    order.append(name)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_images_of_one_size_go_in_the_order_they_came() -> None:
    async def scene() -> list[str]:
        queue, order = AdmissionQueue(1, 10, 10**9, 10**12), list[str]()
        await queue.wait(100)
        waiting = [asyncio.create_task(begin(queue, 100, order, name)) for name in "abc"]
        for _ in waiting:
            await settle()
            queue.leave(100, 0.1)
        await settle()
        return order

    assert asyncio.run(scene()) == ["a", "b", "c"]


def test_a_small_image_overtakes_a_large_one() -> None:
    async def scene() -> list[str]:
        queue, order = AdmissionQueue(1, 10, 10**9, 10**12), list[str]()
        await queue.wait(100)
        waiting = [
            asyncio.create_task(begin(queue, pixels, order, name))
            for name, pixels in (("large", 50_000_000), ("small", 10_000))
        ]
        for _ in waiting:
            await settle()
            queue.leave(100, 0.1)
        await settle()
        return order

    assert asyncio.run(scene()) == ["small", "large"]


def test_a_large_image_does_not_wait_for_ever() -> None:
    """It comes before small ones that arrive later than its size is worth."""

    async def scene() -> list[str]:
        queue, order = AdmissionQueue(1, 10, 10**9, 10**12), list[str]()
        await queue.wait(100)
        large = asyncio.create_task(begin(queue, 20_000, order, "large"))  # worth 20 ms
        await asyncio.sleep(0.05)
        small = asyncio.create_task(begin(queue, 100, order, "small"))
        for _ in range(2):
            await settle()
            queue.leave(100, 0.1)
        await asyncio.gather(large, small)
        return order

    assert asyncio.run(scene()) == ["large", "small"]


@pytest.mark.parametrize(
    ("limits", "pixels", "waits"),
    [
        ((2, 10**9), [1, 1, 1], [True, True, False]),
        ((0, 10**9), [1], [False]),
        ((10, 100), [60, 30, 30], [True, True, False]),
        ((10, 100), [500, 1], [True, False]),  # one that is too large alone may wait alone
        ((10, 0), [500], [True]),
    ],
)
def test_the_queue_is_bounded_by_images_and_pixels(
    limits: tuple[int, int], pixels: list[int], waits: list[bool]
) -> None:
    async def scene() -> list[bool]:
        queue = AdmissionQueue(1, *limits, 10**12)
        await queue.wait(1)
        tasks = []
        for count in pixels:
            tasks.append(asyncio.create_task(queue.wait(count)))
            await settle()
        outcome = [not task.done() for task in tasks]
        for task in tasks:
            if task.done():
                assert isinstance(task.exception(), BusyError)
            task.cancel()
        return outcome

    assert asyncio.run(scene()) == waits


def test_a_refusal_says_when_to_come_again() -> None:
    async def scene() -> BusyError:
        queue = AdmissionQueue(1, 1, 10**9, 10**12)
        await queue.wait(1)
        waiting = asyncio.create_task(queue.wait(20_000_000))
        await settle()
        with pytest.raises(BusyError) as refused:
            await queue.wait(1)
        waiting.cancel()
        return refused.value

    refused = asyncio.run(scene())
    assert "1 of 20 megapixels wait already" in str(refused)
    assert refused.retry_after_s in (10, 11)


def test_images_in_work_have_no_more_memory_than_there_is() -> None:
    """A large one begins when those before it are done, and before those that came later."""

    queue = AdmissionQueue(4, 10, 10**9, work_bytes=100)
    order: list[str] = []

    async def enter(name: str, size_bytes: int) -> None:
        await queue.wait(1, size_bytes)
        order.append(name)

    async def scene() -> None:
        await queue.wait(1, 60)
        waiting = [asyncio.create_task(enter(name, size)) for name, size in (("large", 80), ("small", 30))]
        await settle()
        assert order == []
        queue.leave(1, 0.1, 60)
        await settle()
        assert order == ["large"]
        queue.leave(1, 0.1, 80)
        await asyncio.gather(*waiting)

    asyncio.run(scene())
    assert order == ["large", "small"]


def test_an_image_that_takes_more_memory_than_there_is_is_refused_at_once() -> None:
    async def scene() -> None:
        queue = AdmissionQueue(1, 10, 10**9, work_bytes=500_000_000)
        with pytest.raises(
            ImageTooLargeError, match=r"65 megapixels.*about 910 MB.*at most 500 MB are there"
        ):
            await queue.wait(65_000_000, 910_000_000)
        await queue.wait(1, 500_000_000)  # nothing was taken

    asyncio.run(scene())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["come", "end", "leave"]), st.integers(0, 5)), max_size=40),
    st.integers(1, 3),
)
def test_no_admission_is_lost_and_none_is_given_twice(events: list[tuple[str, int]], parallel: int) -> None:
    """Whatever comes, ends and leaves: never more than `parallel` in work, nor more bytes than there are, and
    in the end all are free."""

    async def scene() -> None:
        queue = AdmissionQueue(parallel, 4, 10**9, work_bytes=6)
        tasks: dict[asyncio.Task[None], int] = {}  # and their bytes
        in_work: list[int] = []

        def sort_out() -> None:
            for task in [task for task in tasks if task.done()]:
                size_bytes = tasks.pop(task)
                if not task.cancelled() and task.exception() is None:
                    in_work.append(size_bytes)
            assert len(in_work) <= parallel
            assert sum(in_work) <= 6

        for event, which in events:
            if event == "come":
                tasks[asyncio.create_task(queue.wait(which, which))] = which
            elif event == "end" and in_work:
                queue.leave(1, 0.1, in_work.pop())
            elif event == "leave" and tasks:
                list(tasks)[which % len(tasks)].cancel()
            if which % 2:
                await settle()
                sort_out()
        await settle()
        sort_out()
        while in_work:
            queue.leave(1, 0.1, in_work.pop())
            await settle()
            sort_out()
        assert not tasks
        for number in range(parallel):
            await asyncio.wait_for(queue.wait(1, 0 if number else 6), 1)

    asyncio.run(scene())

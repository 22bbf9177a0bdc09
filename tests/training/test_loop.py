"""The training loop: it learns, it can be interrupted, it stops when it has gone wrong."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import default_collate

from tests.training.conftest import RAIN
from training.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from training.loop import (
    DivergedError,
    learning_rate,
    patch_errors,
    train,
    train_courses,
)
from training.rain.streaks import RainRange
from training.recipes import Recipe, describe
from training.samples import Samples


def no_scores(network: nn.Module) -> dict[str, float]:
    return {}


def interrupt(network: nn.Module) -> dict[str, float]:
    raise KeyboardInterrupt


def read_stats(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]


def same(a: object, b: object) -> bool:
    """Equal to the last bit, through dictionaries and lists."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.fixture(scope="module")
def unbroken(tiny_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the tiny recipe, trained in one go."""
    folder = tmp_path_factory.mktemp("unbroken")
    train(tiny_recipe, folder, lambda network: {"psnr": 12.5})
    return folder


def test_loss_falls_on_an_easy_task(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """Faint streaks in such numbers that taking the same grey off every pixel is most of the answer."""
    fog = RainRange("fog", (0.2, 0.2), (3,), (40, 50), angle_deg=5, brightness=(0.012, 0.012))
    easy = replace(tiny_recipe, rain=fog, steps=60, log_every=20, learning_rate=5e-3)
    network = train(easy, tmp_path, lambda network: {"is_training": network.training})
    rainy, clean = default_collate([Samples(replace(easy, seed=1))[index] for index in range(64)])
    rainy, clean = rainy.float() / 255, clean.float() / 255
    with torch.inference_mode():
        error = patch_errors(network(rainy), clean).mean()
    assert error < 0.5 * patch_errors(rainy, clean).mean()
    assert not network.training
    assert not any(entry.get("is_training") for entry in read_stats(tmp_path))


def test_run_folder_tells_how_it_went(unbroken: Path, tiny_recipe: Recipe) -> None:
    stats = read_stats(unbroken)
    assert [entry["step"] for entry in stats if "loss" in entry] == [2, 4, 6]
    assert [entry["step"] for entry in stats if entry.get("psnr") == 12.5] == [4, 6]
    assert stats[0]["learning_rate"] == learning_rate(tiny_recipe, 1)
    checkpoint = load_checkpoint(unbroken / "checkpoint.pt", describe(tiny_recipe))
    assert checkpoint.step == 6
    assert checkpoint.optimiser["param_groups"][0]["lr"] == learning_rate(tiny_recipe, 5)


def test_resumed_run_equals_an_unbroken_one(unbroken: Path, tiny_recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tiny_recipe, tmp_path, interrupt)  # at step 4, one after the checkpoint
    # Killed while it wrote the next checkpoint, too: half of one lies beside the good one.
    good = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.unfinished").write_bytes(good[: len(good) // 2])
    assert load_checkpoint(tmp_path / "checkpoint.pt", describe(tiny_recipe)).step == 3

    network = train(tiny_recipe, tmp_path, no_scores)
    resumed, whole = (
        load_checkpoint(f / "checkpoint.pt", describe(tiny_recipe)) for f in (tmp_path, unbroken)
    )
    assert same(vars(resumed), vars(whole))
    assert same(dict(network.state_dict()), whole.average)
    assert not same(whole.network, whole.average)


def test_finished_run_is_not_trained_again(unbroken: Path, tiny_recipe: Recipe) -> None:
    network = train(tiny_recipe, unbroken, interrupt)
    assert same(
        dict(network.state_dict()), load_checkpoint(unbroken / "checkpoint.pt", describe(tiny_recipe)).average
    )


def test_checkpoint_of_another_recipe_is_refused(unbroken: Path, tiny_recipe: Recipe) -> None:
    with pytest.raises(
        CheckpointError, match=r"made by another recipe \(\w+ differ\); remove .* or choose another --name"
    ):
        train(replace(tiny_recipe, seed=1), unbroken, no_scores)


def test_failed_save_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(Checkpoint(1, {}, {"a": torch.zeros(1000)}, {}, {}, []), path)
    with pytest.raises(AttributeError, match="pickle"):
        save_checkpoint(Checkpoint(2, {}, {"a": lambda: None}, {}, {}, []), path)
    assert load_checkpoint(path, {}).step == 1


def poisoned(checkpoint: Checkpoint) -> Checkpoint:
    network = {name: torch.full_like(weight, torch.nan) for name, weight in checkpoint.network.items()}
    return replace(checkpoint, network=network)


def test_poisoned_weights_stop_the_run(tiny_recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tiny_recipe, tmp_path, interrupt)
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(poisoned(load_checkpoint(path, describe(tiny_recipe))), path)
    before = path.read_bytes()
    with pytest.raises(DivergedError, match="the loss is nan at step 3"):
        train(tiny_recipe, tmp_path, no_scores)
    assert path.read_bytes() == before


def test_absurd_learning_rate_stops_the_run(tiny_recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"at step \d; try a lower learning rate"):
        train(replace(tiny_recipe, learning_rate=1e30, checkpoint_every=1), tmp_path, no_scores)


def test_learning_rate_warms_up_stays_and_falls_to_zero(tiny_recipe: Recipe) -> None:
    recipe = replace(tiny_recipe, steps=1000, warmup_steps=100, decay_share=0.4, learning_rate=2.0)
    rates = [learning_rate(recipe, step) for step in range(1000)]
    assert rates[:100] == pytest.approx([2.0 * (step + 1) / 100 for step in range(100)])
    assert set(rates[100:600]) == {2.0}
    assert rates[600:] == pytest.approx([2.0 * (1000 - step) / 400 for step in range(600, 1000)])
    longer = replace(recipe, steps=3000)
    assert [learning_rate(longer, step) for step in range(600)] == rates[:600]


def test_each_patch_has_an_error_of_its_own() -> None:
    clean = torch.zeros(2, 3, 4, 4)
    derained = clean + torch.tensor([0.1, 0.3]).reshape(2, 1, 1, 1)
    assert patch_errors(derained, clean).tolist() == pytest.approx([0.1, 0.3], rel=1e-3)
    derained.requires_grad_()
    patch_errors(derained, derained.detach()).sum().backward()
    assert derained.grad is not None
    assert derained.grad.isfinite().all(), "no error has a gradient all the same"


def test_the_late_course_sets_out_from_the_fork(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """Its end is that of a run that had the late rain from the start, and the mean lies between."""
    downpour = replace(RAIN, name="downpour", brightness=(0.8, 0.9))
    forked = replace(tiny_recipe, late_rain=downpour, late_share=0.5)
    network = train_courses(forked, tmp_path / "forked", no_scores)
    late = dict(train(forked, tmp_path / "late", no_scores).state_dict())
    early = dict(train(tiny_recipe, tmp_path / "early", no_scores).state_dict())
    assert not same(early, late)
    mean = {name: (early[name] + late[name]) / 2 for name in early}
    assert same(dict(network.state_dict()), mean)
    again = train_courses(forked, tmp_path / "forked", interrupt)
    assert same(dict(again.state_dict()), mean), "a finished run is not trained again"

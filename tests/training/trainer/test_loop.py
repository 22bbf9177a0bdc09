"""The training loop: it learns, it can be interrupted, it stops when it has gone wrong."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from derain.errors import DerainError
from derain.images.formats import PNG
from derain.images.plain import encode
from tests.training.conftest import changed, random_model
from tests.training.trainee import Task, Trainee
from training.model.derain_model import Batch, DerainModel
from training.model.losses import patch_errors
from training.rain.rainmix import RainMix
from training.rain.streaks import RainRange
from training.rain.textures import TextureRain
from training.recipes import Recipe, describe
from training.trainer.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from training.trainer.distributed import ProcessError, Processes
from training.trainer.loop import DivergedError, Execution, add_gradients, convolving, learning_rate, train
from training.trainer.samples import Samples

HERE = Execution(workers=0)


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


@pytest.fixture(scope="module")
def unbroken_pair(conditioned_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of an estimator and two derainers, trained in one go."""
    folder = tmp_path_factory.mktemp("unbroken-pair")
    train(conditioned_recipe, folder, no_scores, execution=HERE)
    return folder


@pytest.mark.slow
def test_loss_falls_on_an_easy_task(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """Faint streaks in such numbers that taking the same grey off every pixel is most of the answer."""
    fog = RainRange("fog", (0.2, 0.2), (3,), (40, 50), angle_deg=5, brightness=(0.012, 0.012))
    easy = changed(tiny_recipe, rain=fog, steps=60, log_every=20, learning_rate=5e-3)
    model = train(easy, tmp_path, lambda model: {"is_training": model.training})
    rainy, clean = default_collate([Samples(changed(easy, seed=1))[index] for index in range(64)])
    rainy, clean = rainy.float() / 255, clean.float() / 255
    with torch.inference_mode():
        error = patch_errors(model.derainer(rainy), clean).mean()
    assert error < 0.5 * patch_errors(rainy, clean).mean()
    assert not model.training
    assert not any(entry.get("is_training") for entry in read_stats(tmp_path))


def test_run_folder_tells_how_it_went(unbroken: Path, tiny_recipe: Recipe) -> None:
    stats = read_stats(unbroken)
    assert [entry["step"] for entry in stats if "loss" in entry] == [2, 4, 6]
    assert [entry["step"] for entry in stats if entry.get("psnr") == 12.5] == [4, 6]
    assert stats[0]["learning_rate"] == learning_rate(tiny_recipe, 1)
    checkpoint = load_checkpoint(unbroken / "checkpoint.pt", describe(tiny_recipe))
    assert checkpoint.step == 6
    assert checkpoint.optimizer["muon"]["param_groups"][0]["lr"] == learning_rate(tiny_recipe, 5)


def test_resumed_run_equals_an_unbroken_one(
    unbroken_pair: Path, conditioned_recipe: Recipe, tmp_path: Path
) -> None:
    """Estimator and derainers, their optimizer and what was to be logged of them."""
    recipe = conditioned_recipe
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path, interrupt)  # at step 4, one after the checkpoint
    # Killed while it wrote the next checkpoint, too: half of one lies beside the good one.
    good = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.unfinished").write_bytes(good[: len(good) // 2])
    assert load_checkpoint(tmp_path / "checkpoint.pt", describe(recipe)).step == 3

    model = train(recipe, tmp_path, no_scores)
    resumed, whole = (
        load_checkpoint(f / "checkpoint.pt", describe(recipe)) for f in (tmp_path, unbroken_pair)
    )
    assert same(vars(resumed), vars(whole))
    assert same(dict(model.state_dict()), whole.average)
    assert not same(whole.model, whole.average)


def test_one_derainer_trains_as_the_first_of_several(
    unbroken_pair: Path, conditioned_recipe: Recipe, tmp_path: Path
) -> None:
    """To the last bit, and so does the estimator: neither is told how many there are beside it."""
    shape = replace(conditioned_recipe.model, derainers=1)
    alone = changed(conditioned_recipe, name="alone", model=shape)
    train(alone, tmp_path, no_scores, execution=HERE)
    one = load_checkpoint(tmp_path / "checkpoint.pt", describe(alone))
    several = load_checkpoint(unbroken_pair / "checkpoint.pt", describe(conditioned_recipe))
    for ours, theirs in ((one.model, several.model), (one.average, several.average)):
        others = {name for name in theirs if name.startswith("derainer.members.1.")}
        assert others and theirs.keys() - ours.keys() == others
        assert [name for name, weight in ours.items() if not torch.equal(weight, theirs[name])] == []
    torch.manual_seed(alone.seed)
    untrained = DerainModel(shape).state_dict()
    for part in ("estimator.head.weight", "derainer.members.0.tail.weight"):
        assert not torch.equal(one.model[part], untrained[part]), "both have learnt"


def test_each_part_has_its_own_loss_and_clips_its_own_gradient(
    conditioned_recipe: Recipe, tmp_path: Path
) -> None:
    """Of the first step, computed anew: the estimator's, and the mean of the derainers'."""
    recipe = changed(conditioned_recipe, steps=1, log_every=1)
    train(recipe, tmp_path, no_scores, execution=HERE)
    torch.manual_seed(recipe.seed)
    model = DerainModel(recipe.model)
    samples = Samples(recipe)
    with convolving(torch.device("cpu")):
        losses = model.errors(collated(samples, recipe.course.batch), recipe.optimization.loss).mean(dim=0)
    losses.sum().backward()
    of_estimator, *of_derainers = losses.tolist()
    estimator, *derainers = (
        float(torch.cat([p.grad.flatten() for p in part.parameters() if p.grad is not None]).norm())
        for part in model.parts
    )
    (entry, *_) = read_stats(tmp_path)
    expected = {
        "estimator_loss": of_estimator,
        "loss": float(np.mean(of_derainers)),
        "estimator_gradient_norm": estimator,
        "gradient_norm": float(np.mean(derainers)),
    }
    assert {name: entry[name] for name in expected} == pytest.approx(expected, rel=0.02)
    assert estimator > 2 * recipe.optimization.gradient_clip, "which would have left the derainers little"


@pytest.mark.slow
def test_threads_are_those_asked_for(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """On a machine of one core, 1 unless more are asked for."""
    recipe = changed(tiny_recipe, steps=1)
    try:
        for threads in (None, 2):
            folder = tmp_path / str(threads)
            execution = Execution(workers=0, threads=threads)
            train(recipe, folder, lambda _: {"threads": torch.get_num_threads()}, execution=execution)
            assert read_stats(folder)[-1]["threads"] == (threads or 1)
    finally:
        torch.set_num_threads(1)


def test_finished_run_is_not_trained_again(unbroken: Path, tiny_recipe: Recipe) -> None:
    model = train(tiny_recipe, unbroken, interrupt)
    assert same(
        dict(model.state_dict()), load_checkpoint(unbroken / "checkpoint.pt", describe(tiny_recipe)).average
    )


def test_checkpoint_of_another_recipe_is_refused(unbroken: Path, tiny_recipe: Recipe) -> None:
    with pytest.raises(
        CheckpointError,
        match=r"made by another recipe \(\w+ differ\); remove .* to start anew, or choose another --name",
    ):
        train(changed(tiny_recipe, seed=1), unbroken, no_scores)


def test_a_longer_run_goes_on_from_a_shorter_one(tiny_recipe: Recipe, unbroken: Path, tmp_path: Path) -> None:
    """To the same weights, as long as the shorter one's rate had not begun to fall."""
    longer = changed(tiny_recipe, steps=12)
    train(longer, tmp_path / "at once", no_scores, execution=HERE)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_recipe, tmp_path / "longer", interrupt, execution=HERE)
    train(longer, tmp_path / "longer", no_scores, execution=HERE)
    at_once, later = (
        load_checkpoint(tmp_path / name / "checkpoint.pt", describe(longer)) for name in ("at once", "longer")
    )
    assert at_once.step == later.step == 12
    assert same(at_once.model, later.model)
    with pytest.raises(CheckpointError, match=r"another recipe \(course\.steps differ\)"):
        train(longer, unbroken, no_scores)


def test_failed_save_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(Checkpoint(1, {}, "", {"a": torch.zeros(1000)}, {}, {}, []), path)
    with pytest.raises(AttributeError, match="pickle"):
        save_checkpoint(Checkpoint(2, {}, "", {"a": lambda: None}, {}, {}, []), path)
    assert load_checkpoint(path, {}).step == 1


def poisoned(checkpoint: Checkpoint) -> Checkpoint:
    model = {name: torch.full_like(weight, torch.nan) for name, weight in checkpoint.model.items()}
    return replace(checkpoint, model=model)


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
        train(changed(tiny_recipe, learning_rate=1e30, checkpoint_every=1), tmp_path, no_scores)


def test_learning_rate_warms_up_stays_and_falls_to_zero(tiny_recipe: Recipe) -> None:
    recipe = changed(tiny_recipe, steps=1000, warmup_steps=100, decay_share=0.4, learning_rate=2.0)
    rates = [learning_rate(recipe, step) for step in range(1000)]
    assert rates[:100] == pytest.approx([2.0 * (step + 1) / 100 for step in range(100)])
    assert set(rates[100:600]) == {2.0}
    assert rates[600:] == pytest.approx([2.0 * (1000 - step) / 400 for step in range(600, 1000)])
    longer = changed(recipe, steps=3000)
    assert [learning_rate(longer, step) for step in range(600)] == rates[:600]


def test_each_patch_has_an_error_of_its_own() -> None:
    clean = torch.zeros(2, 3, 4, 4)
    derained = clean + torch.tensor([0.1, 0.3]).reshape(2, 1, 1, 1)
    assert patch_errors(derained, clean).tolist() == pytest.approx([0.1, 0.3], rel=1e-3)
    derained.requires_grad_()
    patch_errors(derained, derained.detach()).sum().backward()
    assert derained.grad is not None
    assert derained.grad.isfinite().all(), "no error has a gradient all the same"


def test_l1_is_a_mean_over_the_pixels_of_a_patch() -> None:
    clean = torch.zeros(2, 3, 2, 2)
    derained = clean.clone()
    derained[0, 0, 0, 0], derained[1] = 0.6, -0.2  # one pixel of twelve values, and all
    assert patch_errors(derained, clean, "l1").tolist() == pytest.approx([0.05, 0.2])
    assert patch_errors(derained, clean).tolist() == pytest.approx([0.6 / 12**0.5, 0.2], rel=1e-3)


def test_loss_and_optimizer_are_the_recipes(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """An untrained network returns its input, so the first loss is the rain's own size."""
    recipe = changed(tiny_recipe, steps=1, log_every=1, validate_every=1)
    other = changed(recipe, loss="l1", optimizer="adamw")
    assert (recipe.optimization.loss, recipe.optimization.optimizer) == ("rmse", "muon")
    samples = Samples(recipe)
    rainy, clean = default_collate([samples[index] for index in range(recipe.course.batch)])
    rain = (rainy.float() - clean.float()) / 255
    for each, expected, state in (
        (recipe, rain.square().mean(dim=(1, 2, 3)).sqrt().mean(), {"muon", "adamw"}),
        (other, rain.abs().mean(), {"adamw"}),
    ):
        folder = tmp_path / each.optimization.loss
        train(each, folder, no_scores, execution=Execution(workers=0))
        (entry, *_) = read_stats(folder)
        assert entry["loss"] == pytest.approx(float(expected), rel=0.01)
        checkpoint = load_checkpoint(folder / "checkpoint.pt", describe(each))
        assert checkpoint.optimizer.keys() == state
        assert checkpoint.recipe["optimization"]["loss"] == each.optimization.loss
    with pytest.raises(
        CheckpointError, match=r"another recipe \(optimization\.loss, optimization\.optimizer differ\)"
    ):
        train(recipe, tmp_path / other.optimization.loss, no_scores)


def folder_of_pictures(folder: Path) -> Path:
    folder.mkdir()
    for name in "abc":
        noise = np.random.default_rng(ord(name)).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        (folder / f"{name}.png").write_bytes(encode(noise, PNG))
    return folder


def add(folder: Path) -> None:
    shutil.copy(folder / "a.png", folder / "d.png")


def remove(folder: Path) -> None:
    (folder / "b.png").unlink()


def rename(folder: Path) -> None:
    (folder / "a.png").rename(folder / "z.png")


def alter(folder: Path) -> None:
    (folder / "c.png").write_bytes((folder / "b.png").read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("change", [add, remove, rename, alter])
@pytest.mark.parametrize("kind", ["photographs", "rain"])
def test_run_does_not_go_on_with_other_pictures(
    tiny_recipe: Recipe, tmp_path: Path, change: Callable[[Path], None], kind: str
) -> None:
    folder, kept, run_folder = folder_of_pictures(tmp_path / kind), tmp_path / "kept", tmp_path / "run"
    layers = RainMix("rainmix", TextureRain("textures", folder))
    recipe = changed(tiny_recipe, rain=layers) if kind == "rain" else changed(tiny_recipe, photographs=folder)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, run_folder, interrupt)
    shutil.copytree(folder, kept)
    change(folder)
    with pytest.raises(CheckpointError, match=f"the images in {folder} are not .* bring those back, or"):
        train(recipe, run_folder, no_scores)
    shutil.rmtree(folder)
    kept.rename(folder)
    (folder / "notes.txt").write_text("no image")
    train(recipe, run_folder, no_scores)


@pytest.mark.slow
def test_a_folder_is_trained_in_by_one_process(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """Killed, it leaves no lock behind, though its worker may outlive it."""
    trainee = Trainee(Task(changed(tiny_recipe, steps=20_000), tmp_path, Execution(workers=1)))
    trainee.wait_for_step(4)
    said = f"is being trained by process {trainee.process.pid} on .* already; wait for it, stop it, or choose"
    try:
        with pytest.raises(ProcessError, match=said):
            train(tiny_recipe, tmp_path, no_scores)
        assert trainee.process.poll() is None
    finally:
        trainee.process.kill()
        trainee.process.wait()
    with pytest.raises(CheckpointError, match="another recipe"):
        train(changed(tiny_recipe, seed=1), tmp_path, no_scores)


def collated(samples: Samples, count: int) -> Batch:
    return tuple(default_collate([samples[index] for index in range(count)]))


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 6, 100])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_gradient_of_a_batch_is_that_of_its_parts(
    conditioned_recipe: Recipe, count: int, micro_batch: int
) -> None:
    """Of parts of unequal sizes too, and with the weights that make each loss a mean over samples."""
    whole = collated(Samples(conditioned_recipe), 6)
    model = random_model(conditioned_recipe.model)

    def errors(batch: Batch) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return model.errors(batch, "rmse")

    def gradients() -> list[Tensor]:
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    expected_losses = errors(whole).mean(dim=0)
    expected_losses.sum().backward()
    expected = gradients()
    model.zero_grad()
    losses = torch.zeros(3)
    for rank in range(count):
        share = Processes(rank, count).share_of(6)
        part = tuple(each[share.start : share.stop] for each in whole)
        losses += add_gradients(errors, part, micro_batch, 6, torch.device("cpu"))
    torch.testing.assert_close(losses, expected_losses.detach(), rtol=1e-4, atol=1e-6)
    for ours, theirs in zip(gradients(), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [
        ({"avx2": True}, False),
        ({"avx512_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"bf16": True}, True),
    ],
)
def test_bfloat16_only_where_there_are_instructions_for_it(
    instructions: dict[str, bool], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    computed: list[torch.dtype] = []

    def errors(batch: tuple[Tensor, ...]) -> Tensor:
        convolved = torch.nn.functional.conv2d(batch[0], torch.ones(1, 1, 1, 1, requires_grad=True))
        computed.append(convolved.dtype)
        return convolved.float().mean(dim=(1, 2, 3))

    add_gradients(errors, (torch.ones(2, 1, 4, 4),), 2, 2, torch.device("cpu"))
    assert computed == [torch.bfloat16 if expected else torch.float32]


def test_micro_batches_learn_the_same(unbroken: Path, tiny_recipe: Recipe, tmp_path: Path) -> None:
    train(tiny_recipe, tmp_path, no_scores, execution=Execution(workers=0, micro_batch=3))
    for ours, theirs in zip(read_stats(tmp_path), read_stats(unbroken), strict=False):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3), "bfloat16 rounds each part"
        if ours["step"] == 2:
            break


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated")  # torch's own use of it
def test_compiled_network_leaves_the_same_kind_of_checkpoint(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """Begun compiled, gone on without."""
    if shutil.which("g++") is None:
        pytest.skip("needs a C++ compiler")
    with pytest.raises(KeyboardInterrupt):
        train(tiny_recipe, tmp_path, interrupt, execution=Execution(compile=True))
    assert load_checkpoint(tmp_path / "checkpoint.pt", describe(tiny_recipe)).step == 3
    train(tiny_recipe, tmp_path, no_scores)
    assert [entry["step"] for entry in read_stats(tmp_path) if "loss" in entry] == [2, 4, 6]


def test_compiling_without_a_compiler_is_an_error(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(DerainError, match=r"needs a C.* compiler, and there is no no-such-compiler"):
        train(tiny_recipe, tmp_path, no_scores, execution=Execution(compile=True))


@pytest.mark.slow
def test_log_entries_are_means_over_all_steps_between_them(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """Whatever lies between them: a validation, a checkpoint, an interruption."""
    each, few = tmp_path / "each", tmp_path / "few"
    train(changed(tiny_recipe, log_every=1), each, no_scores)
    recipe = changed(tiny_recipe, log_every=5, validate_every=4)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, few, interrupt)  # at step 4, one after the checkpoint
    train(recipe, few, no_scores)
    (entry,) = [entry for entry in read_stats(few) if "loss" in entry]
    for name in ("loss", "gradient_norm"):
        steps = [entry[name] for entry in read_stats(each) if "loss" in entry][:5]
        assert entry[name] == pytest.approx(sum(steps) / 5, rel=1e-9)
    assert entry["learning_rate"] == learning_rate(recipe, 4)
    assert entry["samples_per_second"] == pytest.approx(4 * entry["steps_per_second"])
    assert 0 <= entry["waiting_share"] <= 1

"""Beginning from a finished model: the network computes what the model does, larger or not."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from derain.arrays import Picture
from derain.engine import Engine
from derain.errors import ModelError
from derain.manifest import describe_file
from tests.training.conftest import (
    SURVEYED,
    TINY_SHAPE,
    TOLD_SHAPE,
    ExportedModel,
    surveyed_network,
    with_random_weights,
)
from training.card import write_model_texts
from training.export import OPSET, export
from training.loop import train
from training.network import DerainNetwork, MeanNetwork, NetworkShape, derain_picture
from training.options import SurveyError, read_options
from training.recipes import Recipe
from training.start import StartError, begin, start_from, survey_of
from training.survey import FINDINGS, Survey, SurveyShape

LARGER = {
    "alike": TINY_SHAPE,
    "wider": replace(TINY_SHAPE, width=6),
    "deeper": replace(TINY_SHAPE, blocks=(2,), dilations=(1, 2)),
    "both": NetworkShape(width=7, blocks=(3,), dilations=(1, 1, 1)),
}


@pytest.mark.parametrize("shape", LARGER.values(), ids=LARGER.keys())
def test_larger_networks_compute_the_same(
    exported: ExportedModel, picture: Picture, shape: NetworkShape
) -> None:
    network = DerainNetwork(shape).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    begin(network, start_from(exported.folder))
    engine = Engine(exported.folder, threads=1)
    expected = engine.derain(picture)
    engine.close()
    assert np.abs(expected.astype(int) - picture).max() > 10, "the model does something"
    np.testing.assert_allclose(derain_picture(network, picture), expected.astype(float), atol=1)


def test_what_is_new_learns(exported: ExportedModel, picture: Picture) -> None:
    """Zero on both sides of a layer would stay zero."""
    network = DerainNetwork(LARGER["both"])
    begin(network, start_from(exported.folder))
    rainy = torch.from_numpy(picture[:40, :56].transpose(2, 0, 1)[None] / np.float32(255))
    for _ in range(2):
        network.zero_grad()
        network(rainy).square().mean().backward()
        with torch.no_grad():
            for parameter in network.parameters():
                assert parameter.grad is not None
                parameter.sub_(parameter.grad)
    changed = [
        parameter.grad.abs().amax() for parameter in network.parameters() if parameter.grad is not None
    ]
    assert min(changed) > 0


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            replace(TINY_SHAPE, width=3),
            r"tiny: head.weight is \(4, 3, 6, 6\), which does not fit into .*\(3, 3, 6, 6\)",
        ),
        (replace(TINY_SHAPE, blocks=(0,)), "tiny has weights that this network has no place for: decode.0.0"),
    ],
)
def test_smaller_networks_are_refused(exported: ExportedModel, shape: NetworkShape, message: str) -> None:
    with pytest.raises(StartError, match=message):
        begin(DerainNetwork(shape), start_from(exported.folder))


def test_another_model_in_its_place_is_noticed(exported: ExportedModel) -> None:
    meant = replace(start_from(exported.folder), sha256="0" * 64)
    with pytest.raises(StartError, match="is not the model that the training was to begin from"):
        begin(DerainNetwork(TINY_SHAPE), meant)


def test_training_begins_there_and_needs_the_model_no_more_once_begun(
    exported: ExportedModel, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(exported.folder, model)
    still = replace(tiny_recipe, start=start_from(model), learning_rate=1e-9, average_decay=0.0)
    trained = train(still, tmp_path / "run", lambda _: {})
    for name, parameter in exported.network.named_parameters():
        torch.testing.assert_close(dict(trained.named_parameters())[name], parameter, atol=1e-6, rtol=0)
    shutil.rmtree(model)
    train(still, tmp_path / "run", lambda _: {})
    with pytest.raises(ModelError, match=r"manifest\.json is missing"):
        train(still, tmp_path / "other", lambda _: {})


def test_what_is_kept_is_mixed_with_what_was_learnt(
    exported: ExportedModel, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    """The same course, of which a quarter is not gone; also when the run is asked for again."""
    begun = replace(tiny_recipe, start=start_from(exported.folder), average_decay=0.0)
    kept = replace(begun, start=start_from(exported.folder, kept=0.25))
    learnt = train(begun, tmp_path / "learnt", lambda _: {}).state_dict()
    before = exported.network.state_dict()
    assert not all(torch.equal(learnt[name], weight) for name, weight in before.items())
    for _ in range(2):
        mixed = train(kept, tmp_path / "mixed", lambda _: {}).state_dict()
        for name, weight in mixed.items():
            torch.testing.assert_close(weight, 0.25 * before[name] + 0.75 * learnt[name])


def test_keeping_needs_something_to_keep(exported: ExportedModel) -> None:
    start = read_options(["smoke", "--from", str(exported.folder), "--keep", "0.2"]).recipe.start
    assert start is not None
    assert start.kept == 0.2
    with pytest.raises(StartError, match="--keep is of no use without --from"):
        read_options(["smoke", "--keep", "0.2"])


def test_a_survey_keeps_nothing(exported: ExportedModel) -> None:
    """Its numbers have to be right, and it is told what they are."""
    options = ["smoke", "--from", str(exported.folder), "--keep", "0.2", "--survey-steps", "3"]
    start = read_options(options).recipe.of_survey().start
    assert start is not None
    assert start.kept == 0


def test_a_survey_can_go_on_alone(exported: ExportedModel) -> None:
    options = ["smoke", "--from", str(exported.folder), "--steps", "0", "--survey-steps", "3"]
    recipe = read_options(options).recipe
    assert (recipe.steps, recipe.of_survey().steps) == (0, 3)
    with pytest.raises(StartError, match="--steps 0 leaves nothing to learn without --from"):
        read_options(["smoke", *options[3:]])


def test_a_model_can_be_made_anew_to_look_at_fewer_windows(exported: ExportedModel) -> None:
    recipe = read_options(["smoke", "--from", str(exported.folder), "--steps", "0", "--windows", "1"]).recipe
    assert recipe.survey is not None
    assert (recipe.steps, recipe.survey.goes_on, recipe.survey.look.windows) == (0, False, 1)
    with pytest.raises(SurveyError, match="--windows is of no use: the recipe study has no survey"):
        read_options(["study", "--windows", "4"])


def test_after_no_steps_the_network_is_that_begun_from(
    exported: ExportedModel, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    recipe = replace(tiny_recipe, steps=0, start=start_from(exported.folder))
    network = train(recipe, tmp_path, lambda network: {})
    expected = DerainNetwork(TINY_SHAPE)
    begin(expected, start_from(exported.folder))
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, expected.state_dict()[name])


def test_a_model_of_an_earlier_version_is_begun_from(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """Networks were told the same everywhere, by one matrix of how much more and what is added."""
    network = surveyed_network(members=1)
    folder = tmp_path / "told"
    folder.mkdir()
    manifest = export(network, replace(tiny_recipe, network=TOLD_SHAPE), "abc", folder, "told")
    model = onnx.load(folder / "model.onnx")
    arrays = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    older = {}
    for name, array in arrays.items():
        if ".scale." in name:
            more = array - 1 if array.ndim == 1 else array
            both = np.concatenate([more, arrays[name.replace(".scale.", ".shift.")]])
            older[name.replace(".scale.", ".listen.")] = both.reshape(both.shape[:2])
        elif ".shift." not in name and ".notice." not in name:
            older[name] = array.reshape(array.shape[:2]) if ".know." in name else array
    assert older.keys() != arrays.keys()
    del model.graph.initializer[:]
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in older.items())
    onnx.save(model, folder / "model.onnx")
    file = describe_file(folder / "model.onnx", OPSET)
    write_model_texts(folder, manifest.model_copy(update={"file": file}))
    begun = DerainNetwork(TOLD_SHAPE)
    begin(begun, start_from(folder))
    assert isinstance(network.network, MeanNetwork)
    member = network.network.members[0]
    for (name, weight), expected in zip(begun.named_parameters(), member.parameters(), strict=True):
        torch.testing.assert_close(weight, expected, msg=name)
    survey = survey_of(start_from(folder), SURVEYED.shape)
    assert survey is not None
    assert not survey.notices, "surveys then did not tell whether there is rain at all"
    with torch.inference_mode():
        assert survey.look(torch.rand(1, 3, 32, 32))[1].tolist() == [0], (
            "all that networks would is taken off"
        )


def test_each_member_begins_from_one_of_the_model_s(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """A model of two networks, and a recipe of three: the third one begins where the first did."""
    members = [with_random_weights(DerainNetwork(TINY_SHAPE), seed) for seed in range(2)]
    folder = tmp_path / "two"
    folder.mkdir()
    recipe = replace(tiny_recipe, members=2)
    write_model_texts(folder, export(MeanNetwork(members), recipe, "abc", folder, "two"))
    begun = [DerainNetwork(TINY_SHAPE) for _ in range(3)]
    three = replace(tiny_recipe, members=3, start=start_from(folder))
    for number, network in enumerate(begun):
        start = three.member(number).start
        assert start is not None
        begin(network, start)
    for network, member in zip(begun, [*members, members[0]], strict=True):
        for parameter, expected in zip(network.parameters(), member.parameters(), strict=True):
            assert torch.equal(parameter, expected)


def test_of_several_models_the_mean(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """Network by network; and of the first, the survey."""
    networks = [surveyed_network(), surveyed_network()]
    with torch.no_grad():
        for parameter in networks[1].parameters():
            parameter.mul_(3)
    for name, network in zip("ab", networks, strict=True):
        (tmp_path / name).mkdir()
        write_model_texts(tmp_path / name, export(network, tiny_recipe, "unknown", tmp_path / name, name))
    arguments = ["smoke", "--from", str(tmp_path / "a"), "--from", str(tmp_path / "b")]
    start = read_options(arguments).recipe.start
    assert start is not None
    assert [each.folder.name for each in start.also] == ["b"]

    learner = DerainNetwork(TOLD_SHAPE)
    begin(learner, replace(start, member=1))
    assert isinstance(networks[0].network, MeanNetwork)
    for ours, theirs in zip(learner.parameters(), networks[0].network.members[1].parameters(), strict=True):
        torch.testing.assert_close(ours, 2 * theirs)
    survey = survey_of(start, SURVEYED.shape)
    assert survey is not None
    for ours, theirs in zip(survey.parameters(), networks[0].survey.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_option_pins_the_model(exported: ExportedModel, capsys: pytest.CaptureFixture[str]) -> None:
    start = read_options(["smoke", "--from", str(exported.folder)]).recipe.start
    assert start is not None and start.sha256 == exported.manifest.file.sha256
    with pytest.raises(ModelError, match=re.escape("no model at nowhere")):
        read_options(["smoke", "--from", "nowhere"])


def test_a_model_with_a_survey_is_begun_from_with_it(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """Its networks have learnt to understand that one."""
    network = surveyed_network()
    assert isinstance(network.network, MeanNetwork)
    folder = tmp_path / "told"
    folder.mkdir()
    write_model_texts(folder, export(network, tiny_recipe, "abc", folder, "told"))
    start = start_from(folder)
    survey = survey_of(start, SURVEYED.shape)
    assert survey is not None
    for name, weight in network.survey.state_dict().items():
        assert torch.equal(survey.state_dict()[name], weight)
    for number, member in enumerate(network.network.members):
        begun = DerainNetwork(TOLD_SHAPE)
        begin(begun, replace(start, member=number))
        for name, weight in member.state_dict().items():
            assert torch.equal(begun.state_dict()[name], weight)
    begun_survey = Survey(SURVEYED.shape)
    begin(begun_survey, start)
    for name, weight in network.survey.state_dict().items():
        assert torch.equal(begun_survey.state_dict()[name], weight)
    with pytest.raises(StartError, match="has a survey of another size"):
        survey_of(start, SurveyShape())
    with pytest.raises(StartError, match="has a survey of another size"):
        begin(Survey(SurveyShape()), start)


def test_a_model_without_one_can_be_begun_from_too(exported: ExportedModel, picture: Picture) -> None:
    start = start_from(exported.folder)
    assert survey_of(start, SURVEYED.shape) is None
    survey = Survey(SURVEYED.shape)
    untouched = {name: weight.clone() for name, weight in survey.state_dict().items()}
    begin(survey, start)
    assert all(torch.equal(weight, untouched[name]) for name, weight in survey.state_dict().items())
    told = DerainNetwork(TOLD_SHAPE)
    begin(told, start)
    with torch.inference_mode():
        rainy = torch.rand(1, 3, 16, 24)
        torch.testing.assert_close(told(rainy, torch.rand(1, FINDINGS)), exported.network(rainy))

"""The optimizer: Muon on the inner weights, AdamW on the others, on the model's own memory."""

from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from tests.training.conftest import CONDITIONED_MODEL, CONDITIONED_SHAPE
from training.model.derain_model import DerainModel
from training.trainer.optimizer import Optimizer

RATE, DECAY = 1e-2, 0.1
SHAPE = replace(CONDITIONED_MODEL, network=replace(CONDITIONED_SHAPE, dilations=(1, 2)))


def network() -> DerainModel:
    torch.manual_seed(0)
    made = DerainModel(SHAPE)
    return made.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]  # as in loop.py


def give_gradients(made: DerainModel, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for weight in made.parameters():
        weight.grad = torch.randn(weight.shape, generator=generator)


def stepped(made: DerainModel, optimizer: Optimizer, seed: int) -> list[Tensor]:
    give_gradients(made, seed)
    optimizer.step(RATE)
    return [weight.detach().clone() for weight in made.parameters()]


def inner_weights(made: DerainModel) -> list[Tensor]:
    """Of the convolutions between features: neither of heads and tails, nor of what conditions and pools."""
    kinds = ("widen", "refine", "down", "up")
    return [
        weight
        for name, weight in made.named_parameters()
        if weight.ndim == 4 and any(kind in name.split(".") for kind in kinds)
    ]


def test_muon_has_the_inner_weights_of_estimator_and_derainers() -> None:
    made = network()
    state = Optimizer(made, RATE, DECAY).state_dict()
    inner = inner_weights(made)
    assert len(state["muon"]["param_groups"][0]["params"]) == len(inner)
    assert len(state["adamw"]["param_groups"][0]["params"]) == len(list(made.parameters())) - len(inner)
    before = [weight.detach().clone() for weight in inner]
    give_gradients(made, 0)
    Optimizer(made, RATE, DECAY).step(RATE)
    steps = [weight.detach() - was for weight, was in zip(inner, before, strict=True)]
    # Adam's first step is as large for every weight; Muon's is not.
    assert all(step.abs().std() > 0.1 * step.abs().mean() for step in steps)


def test_biases_ends_and_conditions_take_steps_of_adamw() -> None:
    made = network()
    inner = {id(weight) for weight in inner_weights(made)}
    others = [weight for weight in made.parameters() if id(weight) not in inner]
    expected = deepcopy(others)
    reference = torch.optim.AdamW(expected, lr=RATE, weight_decay=DECAY)
    optimizer = Optimizer(made, RATE, DECAY)
    for seed in range(3):
        give_gradients(made, seed)
        for weight, copied in zip(others, expected, strict=True):
            assert weight.grad is not None
            copied.grad = weight.grad.clone()
        optimizer.step(RATE)
        reference.step()
    for weight, copied in zip(others, expected, strict=True):
        torch.testing.assert_close(weight, copied)


def test_all_takes_steps_of_adamw_where_the_inner_weights_are_left_to_it() -> None:
    made, reference_network = network(), network()
    reference = torch.optim.AdamW(reference_network.parameters(), lr=RATE, weight_decay=DECAY)
    optimizer = Optimizer(made, RATE, DECAY, "adamw")
    for seed in range(3):
        give_gradients(made, seed)
        give_gradients(reference_network, seed)
        optimizer.step(RATE)
        reference.step()
    for weight, expected in zip(made.parameters(), reference_network.parameters(), strict=True):
        torch.testing.assert_close(weight, expected)
    again = Optimizer(made, RATE, DECAY, "adamw")
    again.load_state_dict(deepcopy(optimizer.state_dict()))
    assert again.state_dict().keys() == {"adamw"}


def test_inner_weights_move_alike_in_all_directions() -> None:
    """However uneven the gradient: all singular values of a step are alike, and as large as AdamW's step."""
    made = network()
    convolution = next(iter(made.derainer.networks[1].context)).widen
    assert isinstance(convolution, nn.Conv2d)
    before = convolution.weight.detach().clone()
    give_gradients(made, 0)
    assert convolution.weight.grad is not None
    convolution.weight.grad[0] *= 30  # one output channel outshouts the others
    Optimizer(made, RATE, 0).step(RATE)
    step = (convolution.weight.detach() - before).flatten(1)
    values = torch.linalg.svdvals(step)
    assert values.max() < 2 * values.min()
    assert 0.1 * RATE < step.square().mean().sqrt() < 0.3 * RATE


def test_going_on_from_a_state_is_going_on() -> None:
    unbroken, broken = network(), network()
    optimizer, first = Optimizer(unbroken, RATE, DECAY), Optimizer(broken, RATE, DECAY)
    for seed in range(2):
        stepped(unbroken, optimizer, seed)
        stepped(broken, first, seed)
    second = Optimizer(broken, RATE, DECAY)
    second.load_state_dict(deepcopy(first.state_dict()))
    ends = stepped(unbroken, optimizer, 2), stepped(broken, second, 2)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*ends, strict=True))


def test_gradients_in_another_memory_format_are_the_same() -> None:
    channels_last, channels_first = network(), network()
    for made in (channels_last, channels_first):
        give_gradients(made, 0)
    for weight in channels_last.parameters():
        if weight.ndim == 4:
            assert weight.grad is not None
            weight.grad = weight.grad.contiguous(memory_format=torch.channels_last)
    for made in (channels_last, channels_first):
        Optimizer(made, RATE, DECAY).step(RATE)
    for ours, theirs in zip(channels_last.parameters(), channels_first.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)

"""The network: local, tileable, at first the identity, and conditioned on a rain descriptor."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from derain.inference.tiling import Cutter
from tests.training.conftest import with_random_weights
from training.model.blocks import ResidualBlock
from training.model.unet import DerainNetwork, Ensemble, NetworkShape
from training.rain.descriptor import DESCRIPTOR

SHAPES = [
    NetworkShape(width=2, blocks=(2,), dilations=(1, 2)),
    pytest.param(NetworkShape(width=3, blocks=(1, 2), dilations=(1, 3)), marks=pytest.mark.slow),
    NetworkShape(width=2, blocks=(0, 1), dilations=(2,), conditioned=True),
]
SMALL = NetworkShape(width=4, blocks=(1,), dilations=(1, 2))
CONDITIONED = NetworkShape(width=4, blocks=(1, 1), dilations=(1, 2), conditioned=True)


@pytest.mark.parametrize("shape", [SMALL, CONDITIONED])
def test_untrained_network_is_the_identity(shape: NetworkShape) -> None:
    rainy = torch.rand(2, 3, 16, 24)
    descriptor = torch.randn(2, DESCRIPTOR) if shape.conditioned else None
    assert torch.equal(DerainNetwork(shape)(rainy, descriptor), rainy)


@pytest.mark.parametrize("shape", [SMALL, CONDITIONED])
def test_an_ensemble_returns_the_mean_of_its_members(shape: NetworkShape) -> None:
    members = [with_random_weights(DerainNetwork(shape), seed) for seed in range(3)]
    rainy, descriptor = torch.rand(2, 3, 16, 24), torch.randn(2, DESCRIPTOR)
    given = (rainy, descriptor) if shape.conditioned else (rainy,)
    mean = torch.stack([member(*given) for member in members]).mean(dim=0)
    torch.testing.assert_close(Ensemble(members)(*given), mean)
    assert (members[0](*given) - mean).abs().max() > 1e-3


def test_a_network_is_conditioned_on_the_descriptor_of_its_own_image() -> None:
    rainy, descriptor = torch.rand(2, 3, 16, 24), torch.rand(2, DESCRIPTOR)
    network = with_random_weights(DerainNetwork(CONDITIONED), seed=0)
    one, other = network(rainy, descriptor), network(rainy, 3 * descriptor)
    assert (one - other).abs().amax(dim=(1, 2, 3)).min() > 1e-4
    torch.testing.assert_close(network(rainy[1:], descriptor[1:]), one[1:])


def test_a_condition_changes_nothing_before_it_is_learnt() -> None:
    """FiLM begins at a scale of one and a shift of zero."""
    block = ResidualBlock(3, conditions=5, cells=2)
    plain = ResidualBlock(3)
    plain.load_state_dict(
        {name: each for name, each in block.state_dict().items() if name[:2] in ("wi", "re")}
    )
    x = torch.rand(2, 3, 8, 12)
    torch.testing.assert_close(block(x, torch.randn(2, 5, 4, 6)), plain(x))


def test_a_condition_scales_and_shifts_the_channels_of_its_cells() -> None:
    """By hand, with convolutions that pass on what they are given."""
    block = ResidualBlock(1, conditions=1, cells=2)
    assert block.scale is not None and block.shift is not None
    with torch.no_grad():
        for convolution in (block.widen, block.refine):
            convolution.weight.zero_()
            convolution.weight[0, 0, 1, 1] = 1
            assert convolution.bias is not None
            convolution.bias.zero_()
        block.scale.weight.fill_(2)
        block.shift.weight.fill_(10)
    x, condition = torch.rand(1, 1, 2, 4), torch.tensor([[[[0.5, 3.0]]]])
    expected = x + x * torch.tensor([2.0, 2, 7, 7]) + torch.tensor([5.0, 5, 30, 30])
    torch.testing.assert_close(block(x, condition), expected)


def test_default_shape_has_not_changed_its_size() -> None:
    parameters = DerainNetwork(NetworkShape()).parameters()
    assert sum(parameter.numel() for parameter in parameters) == 1_423_820


@pytest.mark.parametrize("shape", SHAPES)
def test_receptive_radius_is_what_gradients_reach(shape: NetworkShape) -> None:
    """With positive weights and input no ReLU closes and no path cancels another."""
    network = DerainNetwork(shape).double().requires_grad_(False)
    for parameter in network.parameters():
        parameter.uniform_(0.1, 1.0).div_(parameter[0].numel())
    descriptor = torch.rand(1, DESCRIPTOR, dtype=torch.float64) if shape.conditioned else None
    cell_px, radius_px = shape.alignment_px, shape.receptive_radius_px
    margin_px = -(-(radius_px + 1) // cell_px) * cell_px
    reached_px = set()
    for row in range(margin_px, margin_px + cell_px):
        for column in range(margin_px, margin_px + cell_px):
            side_px = 2 * margin_px + cell_px
            rainy = torch.rand(1, 3, side_px, side_px, dtype=torch.float64, requires_grad=True)
            network(rainy, descriptor)[0, :, row, column].sum().backward()
            assert rainy.grad is not None
            _, _, rows, columns = rainy.grad.nonzero(as_tuple=True)
            reached_px |= {int((rows - row).abs().max()), int((columns - column).abs().max())}
    assert radius_px - cell_px < max(reached_px) <= radius_px


@pytest.mark.parametrize("conditioned", [False, True])
@pytest.mark.parametrize(("overlap_px", "equal"), [(SMALL.receptive_radius_px, True), (16, False)])
def test_tiles_put_together_equal_the_whole(overlap_px: int, equal: bool, conditioned: bool) -> None:
    """What a network is conditioned on is of the whole image, so its tiles hear the same."""
    network = with_random_weights(DerainNetwork(replace(SMALL, conditioned=conditioned)), seed=0).double()
    descriptor = torch.rand(1, DESCRIPTOR, dtype=torch.float64) if conditioned else None
    rainy = torch.rand(1, 3, 268, 312, dtype=torch.float64)
    with torch.inference_mode():
        whole: Tensor = network(rainy, descriptor)
        tiled = torch.full_like(whole, torch.nan)
        tiles = Cutter(overlap_px, SMALL.alignment_px, tile_pixels=144 * 144, threads=1).cut(268, 312)
        for tile in tiles:
            rows, columns = tile.rows, tile.columns
            part = network(rainy[..., rows.start : rows.stop, columns.start : columns.stop], descriptor)
            tiled[..., rows.keep_start : rows.keep_stop, columns.keep_start : columns.keep_stop] = part[
                ...,
                rows.keep_start - rows.start : rows.keep_stop - rows.start,
                columns.keep_start - columns.start : columns.keep_stop - columns.start,
            ]
    assert len(tiles) > 4
    assert np.allclose(tiled, whole, rtol=0, atol=1e-12) is equal

"""The network: local, tileable, and at first the identity."""

import numpy as np
import pytest
import torch
from torch import Tensor
from training.survey import FINDINGS, LEANS_DEG

from derain.tiling import QUARTERS, cut
from tests.conftest import noise
from tests.training.conftest import set_log_odds, surveyed_network, with_random_weights
from training.network import DerainNetwork, MeanNetwork, NetworkShape, derain_picture

SHAPES = [
    NetworkShape(width=2, blocks=(2,)),
    NetworkShape(width=3, blocks=(1, 2), dilations=(1, 3)),
    NetworkShape(width=2, blocks=(1, 1), blocks_down=(0, 2), dilations=(1,)),
    NetworkShape(width=2, blocks=(1,), dilations=(2,), upsampling="shuffle"),
]
SMALL = NetworkShape(width=4, blocks=(1,), dilations=(1, 2))


def test_untrained_network_is_the_identity() -> None:
    rainy = torch.rand(2, 3, 12, 20)
    assert torch.equal(DerainNetwork(SMALL)(rainy), rainy)


def test_mean_network_returns_the_mean_of_its_members() -> None:
    members = [with_random_weights(DerainNetwork(SMALL), seed) for seed in range(3)]
    rainy = torch.rand(2, 3, 12, 20)
    mean = torch.stack([member(rainy) for member in members]).mean(dim=0)
    torch.testing.assert_close(MeanNetwork(members)(rainy), mean)


def test_untold_network_hears_nothing_at_first_and_then_something() -> None:
    rainy = torch.rand(2, 3, 16, 24)
    findings = torch.rand(2, FINDINGS)
    told = NetworkShape(width=4, blocks=(1, 1), dilations=(1, 2), is_told=True)
    assert torch.equal(DerainNetwork(told)(rainy, findings), rainy)
    network = with_random_weights(DerainNetwork(told), seed=0)
    one, other = network(rainy, findings), network(rainy, 3 * findings)
    assert (one - other).abs().max() > 1e-4
    # Each picture hears of its own rain.
    torch.testing.assert_close(network(rainy[1:], findings[1:]), one[1:])


def test_surveyed_network_tells_its_members_what_the_overview_shows() -> None:
    network = surveyed_network()
    rainy, overview = torch.rand(2, 3, 16, 24), torch.rand(2, 3, 32, 32)
    findings = network.survey.findings(overview)
    torch.testing.assert_close(network(rainy, overview), network.network(rainy, findings))
    assert not torch.allclose(network(rainy, overview), network(rainy, overview.flip(0)))


@pytest.mark.parametrize(
    ("log_odds", "share"), [(-9.0, 0.0), (-1.31, 0.0), (-1.15, 0.5), (-0.99, 1.0), (9.0, 1.0)]
)
@pytest.mark.parametrize("windows", [1, QUARTERS])
def test_nothing_is_taken_off_a_picture_that_looks_dry(windows: int, log_odds: float, share: float) -> None:
    """It comes back to the bit; in between, a part of what the network would take off goes."""
    network = surveyed_network(windows=windows)
    set_log_odds(network.survey, log_odds)
    rainy, overview = torch.rand(2, 3, 16, 24), torch.rand(2, 3 * windows, 32, 32)
    place = torch.rand(2, 2, 4, 6) if windows == QUARTERS else None
    all_of_it = network.network(rainy, network.survey.findings(overview, place)) - rainy
    clean = network(rainy, overview, place)
    torch.testing.assert_close(clean, rainy + share * all_of_it)
    assert torch.equal(clean, rainy) is (share == 0)


def test_each_place_is_told_what_its_part_of_the_picture_shows() -> None:
    """Half-way between border and middle lies the middle of a quarter; from there on it goes on as it was."""
    survey = surveyed_network().survey
    windows = torch.rand(2, 3 * QUARTERS, 32, 16)
    brightness = FINDINGS - 2
    each = torch.stack([survey(window) for window in windows.chunk(QUARTERS, dim=1)])[..., brightness]
    middles = torch.tensor([[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]])
    place = middles.T.reshape(1, 2, 2, 2).expand(2, -1, -1, -1)
    found = survey.findings(windows, place)
    assert found.shape == (2, FINDINGS, 2, 2)
    # A plane has three numbers: of four it meets the sums of any row and column.
    told = found[:, brightness].flatten(1).T
    for pair in ([0, 1], [2, 3], [0, 2], [1, 3]):
        torch.testing.assert_close(told[pair].mean(dim=0), each[pair].mean(dim=0))
    of_all = survey.findings(windows)
    torch.testing.assert_close(survey.findings(windows, torch.zeros(2, 2, 1, 1))[..., 0, 0], of_all)
    others = [number for number in range(FINDINGS) if number != brightness]
    everywhere = of_all[:, others, None].expand(-1, -1, 4)
    torch.testing.assert_close(found.flatten(2)[:, others], everywhere)


def test_a_network_hears_of_each_cell_what_is_told_of_it() -> None:
    """The same of all cells is the same as of the whole; another of some changes what is near them."""
    network = with_random_weights(
        DerainNetwork(NetworkShape(width=4, blocks=(1, 1), dilations=(1,), is_told=True)), seed=0
    )
    rainy, findings = torch.rand(2, 3, 16, 160), torch.rand(2, FINDINGS)
    cells = findings[..., None, None].repeat(1, 1, 2, 20)
    whole = network(rainy, findings)
    torch.testing.assert_close(network(rainy, cells), whole)
    cells[..., :2] *= 3
    changed = (network(rainy, cells) - whole).abs()
    reach_px = 16 + network.shape.receptive_radius_px
    assert changed[..., :16].max() > 1e-4
    assert changed[..., reach_px:].max() < 1e-6


def test_the_findings_of_several_windows_are_the_mean_of_each_ones() -> None:
    survey = surveyed_network().survey
    windows = torch.rand(2, 3, 3, 32, 16)  # three of each of two pictures
    measures = survey.findings(windows.flatten(1, 2))[:, len(LEANS_DEG) : -1]
    each = survey.findings(windows.flatten(0, 1))[:, len(LEANS_DEG) : -1].reshape(2, 3, -1)
    torch.testing.assert_close(measures, each.mean(dim=1))
    assert not torch.allclose(measures[0], measures[1])


def test_whether_there_is_rain_is_what_the_windows_say_on_average() -> None:
    survey = surveyed_network().survey
    with torch.no_grad():
        survey.notice.weight.normal_(generator=torch.Generator().manual_seed(0))
    windows = torch.rand(2, 3, 3, 32, 16)
    findings, log_odds = survey.look(windows.flatten(1, 2))
    each = survey.look(windows.flatten(0, 1))[1].reshape(2, 3)
    assert survey.notice.weight.any()
    torch.testing.assert_close(log_odds, each.mean(dim=1))
    torch.testing.assert_close(findings, survey.findings(windows.flatten(1, 2)))
    assert each.std(dim=1).min() > 1e-4


def test_a_picture_is_told_of_its_own_middle() -> None:
    network = surveyed_network()
    picture = noise(300, 280)
    changed = picture.copy()
    changed[:20] = 0  # beyond the middle 256, and far from the bottom
    far = slice(20 + network.shape.receptive_radius_px, None)
    assert np.array_equal(derain_picture(network, picture)[far], derain_picture(network, changed)[far])
    changed = picture.copy()
    changed[30:60] = 0  # in the middle
    assert not np.array_equal(derain_picture(network, picture)[far], derain_picture(network, changed)[far])


def test_default_shape_has_not_changed_its_size() -> None:
    parameters = DerainNetwork(NetworkShape()).parameters()
    assert sum(parameter.numel() for parameter in parameters) == 1_423_820


@pytest.mark.parametrize("shape", SHAPES)
def test_receptive_radius_is_what_gradients_reach(shape: NetworkShape) -> None:
    """With positive weights and input no ReLU closes and no path cancels another."""
    network = DerainNetwork(shape).double().requires_grad_(False)
    for parameter in network.parameters():
        parameter.uniform_(0.1, 1.0).div_(parameter[0].numel())
    cell_px, radius_px = shape.alignment_px, shape.receptive_radius_px
    margin_px = -(-(radius_px + 1) // cell_px) * cell_px
    reached_px = set()
    for row in range(margin_px, margin_px + cell_px):
        for column in range(margin_px, margin_px + cell_px):
            side_px = 2 * margin_px + cell_px
            rainy = torch.rand(1, 3, side_px, side_px, dtype=torch.float64, requires_grad=True)
            network(rainy)[0, :, row, column].sum().backward()
            assert rainy.grad is not None
            _, _, rows, columns = rainy.grad.nonzero(as_tuple=True)
            reached_px |= {int((rows - row).abs().max()), int((columns - column).abs().max())}
    assert radius_px - cell_px < max(reached_px) <= radius_px


@pytest.mark.parametrize(("overlap_px", "equal"), [(SMALL.receptive_radius_px, True), (16, False)])
def test_tiles_put_together_equal_the_whole(overlap_px: int, equal: bool) -> None:
    network = with_random_weights(DerainNetwork(SMALL), seed=0).double()
    rainy = torch.rand(1, 3, 268, 312, dtype=torch.float64)
    with torch.inference_mode():
        whole: Tensor = network(rainy)
        tiled = torch.full_like(whole, torch.nan)
        tiles = cut(268, 312, 1, 144 * 144, overlap_px, SMALL.alignment_px)
        for tile in tiles:
            rows, columns = tile.rows, tile.columns
            part = network(rainy[..., rows.start : rows.stop, columns.start : columns.stop])
            tiled[..., rows.keep_start : rows.keep_stop, columns.keep_start : columns.keep_stop] = part[
                ...,
                rows.keep_start - rows.start : rows.keep_stop - rows.start,
                columns.keep_start - columns.start : columns.keep_stop - columns.start,
            ]
    assert len(tiles) > 4
    assert torch.allclose(tiled, whole, rtol=0, atol=1e-12) is equal

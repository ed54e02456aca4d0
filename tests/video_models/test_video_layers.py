"""Deformable convolution, space-time orders, windows and S6 along paths, each against a slow twin."""

import itertools
import math

import pytest
import torch

from posescale.errors import ConfigError
from posescale.layers.deformable import DeformableConv, deform_conv2d
from posescale.layers.global_local import ChannelAttention, sine_cosine_grid
from posescale.layers.s6 import S6Paths
from posescale.layers.space_time import (
    UNIFIED_PAIRS,
    from_windows,
    space_time_orders,
    to_windows,
    window_mask,
    window_orders,
)
from posescale.ops import selective_scan

GRIDS = [(1, 4, 6), (3, 2, 5), (5, 8, 6), (2, 1, 1), (4, 7, 3)]


def _bilinear(image, y, x):
    """One value of a 2-D image, zero outside it."""
    top, left = math.floor(y), math.floor(x)
    total = 0.0
    for row, column in itertools.product((top, top + 1), (left, left + 1)):
        if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
            total += (1 - abs(y - row)) * (1 - abs(x - column)) * image[row, column].item()
    return total


def _naive_deform(x, offset, mask, weight, bias, groups):
    (n, _, h, w), (out, per, kh, kw) = x.shape, weight.shape
    y = torch.zeros(n, out, h, w, dtype=x.dtype)
    for b, o, i, j in itertools.product(range(n), range(out), range(h), range(w)):
        value = bias[o].item()
        first = o // (out // groups) * per
        for q, (p, r) in itertools.product(range(per), itertools.product(range(kh), range(kw))):
            k = p * kw + r
            row = i + p - kh // 2 + offset[b, 2 * k, i, j].item()
            column = j + r - kw // 2 + offset[b, 2 * k + 1, i, j].item()
            read = _bilinear(x[b, first + q], row, column)
            value += weight[o, q, p, r].item() * mask[b, k, i, j].item() * read
        y[b, o, i, j] = value
    return y


class TestDeformableConvolution:
    @pytest.mark.parametrize(
        ("shape", "out", "kernel", "groups", "reach"),
        [
            ((2, 4, 4, 5), 4, (3, 3), 2, 0.7),
            ((1, 4, 5, 3), 4, (3, 3), 4, 6.0),  # most reads lie outside the image
            ((1, 2, 1, 4), 6, (3, 3), 2, 1.5),
            ((1, 3, 4, 1), 2, (1, 3), 1, 1.5),
            ((1, 1, 1, 1), 1, (3, 3), 1, 1.0),
        ],
    )
    def test_equals_a_loop(self, shape, out, kernel, groups, reach):
        torch.manual_seed(0)
        (n, c, h, w), taps = shape, kernel[0] * kernel[1]
        x = torch.randn(shape, dtype=torch.float64)
        offset = reach * torch.randn(n, 2 * taps, h, w, dtype=torch.float64)
        mask = torch.rand(n, taps, h, w, dtype=torch.float64)
        weight = torch.randn(out, c // groups, *kernel, dtype=torch.float64)
        bias = torch.randn(out, dtype=torch.float64)
        expected = _naive_deform(x, offset, mask, weight, bias, groups)
        torch.testing.assert_close(
            deform_conv2d(x, offset, mask, weight, bias, groups), expected, rtol=1e-11, atol=1e-11
        )

    def test_without_offsets_it_is_a_convolution(self):
        torch.manual_seed(0)
        x, weight = torch.randn(2, 4, 5, 7).double(), torch.randn(6, 2, 3, 3).double()
        y = deform_conv2d(x, x.new_zeros(2, 18, 5, 7), x.new_ones(2, 9, 5, 7), weight, None, 2)
        expected = torch.nn.functional.conv2d(x, weight, None, padding=1, groups=2)
        torch.testing.assert_close(y, expected, rtol=1e-11, atol=1e-11)

    def test_gradients(self):
        torch.manual_seed(0)
        inputs = [torch.randn(size, dtype=torch.float64, requires_grad=True)
                  for size in ((1, 2, 3, 4), (1, 18, 3, 4), (1, 9, 3, 4), (2, 1, 3, 3), (2,))]  # fmt: skip
        assert torch.autograd.gradcheck(lambda *args: deform_conv2d(*args, 2), inputs, fast_mode=True)

    @pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
    def test_half_precision_reads_the_same_pixels(self, half):
        torch.manual_seed(0)
        x, offset, mask = torch.randn(1, 2, 3, 250), torch.randn(1, 18, 3, 250).to(half), torch.rand(1, 9, 3, 250)
        weight = torch.randn(2, 2, 3, 3)
        expected = deform_conv2d(x, offset.float(), mask, weight)
        y = deform_conv2d(x.to(half), offset, mask.to(half), weight.to(half))
        assert y.dtype == half
        torch.testing.assert_close(y.float(), expected, rtol=0.02, atol=0.1)

    @pytest.mark.parametrize("groups", [1, 4, 8])
    def test_layer_starts_as_the_identity_and_steers_by_its_guide(self, groups):
        torch.manual_seed(0)
        layer, x, guide = DeformableConv(8, groups).double(), torch.randn(2, 8, 6, 5).double(), torch.randn(2, 8, 6, 5)
        torch.testing.assert_close(layer(x, guide.double()), x, rtol=1e-11, atol=1e-11)
        torch.nn.init.normal_(layer.steer.weight)
        assert not torch.allclose(layer(x, guide.double()), layer(x, x))

    @pytest.mark.parametrize("groups", [0, 3, 16])
    def test_groups_must_divide_the_channels(self, groups):
        with pytest.raises(ConfigError, match=f"divide its 8 channels, found {groups}"):
            DeformableConv(8, groups)


def _sorted_tokens(grid, axes, reverse=False):
    """Token numbers sorted by their coordinates on the given axes, slowest first."""
    t, h, w = grid
    places = list(itertools.product(range(t), range(h), range(w)))
    numbers = {place: number for number, place in enumerate(places)}
    places.sort(key=lambda place: tuple(place["thw".index(axis)] for axis in axes), reverse=reverse)
    return [numbers[place] for place in places]


@pytest.mark.parametrize("grid", GRIDS)
class TestOrders:
    @pytest.mark.parametrize("pair", UNIFIED_PAIRS)
    def test_paths_are_as_documented(self, grid, pair):
        partner = {"h_flip_v": ("wth", True), "h_flip_h": ("htw", True), "h_v": ("wth", False)}[pair]
        expected = [
            _sorted_tokens(grid, "htw"),
            _sorted_tokens(grid, "thw"),
            _sorted_tokens(grid, "hwt"),
            _sorted_tokens(grid, *partner),
            _sorted_tokens(grid, "thw", True),
            _sorted_tokens(grid, "hwt", True),
        ]
        assert space_time_orders(*grid, 6, pair).tolist() == expected
        assert space_time_orders(*grid, 4, pair).tolist() == [expected[k] for k in (0, 1, 3, 4)]
        assert space_time_orders(*grid, 2, pair).tolist() == [expected[k] for k in (0, 3)]

    @pytest.mark.parametrize("window", [(8, 6), (2, 2), (3, 1), (1, 1), (100, 100)])
    def test_windows_follow_each_other_frame_by_frame_inside(self, grid, window):
        key = {}
        for number, (t, h, w) in enumerate(itertools.product(*map(range, grid))):
            key[number] = (h // window[0], w // window[1], t, h, w)
        expected = sorted(key, key=key.get)
        assert window_orders(*grid, window).tolist() == [expected, expected[::-1]]

    def test_every_path_visits_every_token_once_and_has_an_inverse(self, grid):
        tokens = torch.arange(math.prod(grid))
        for orders in (space_time_orders(*grid), window_orders(*grid, (2, 3))):
            assert orders.dtype == torch.int32
            for order in orders.long():
                assert torch.equal(order.sort().values, tokens)
                assert torch.equal(tokens[order][order.argsort()], tokens)

    @pytest.mark.parametrize("window", [(8, 6), (2, 2), (3, 1), (1, 1)])
    def test_windows_round_trip_with_padding(self, grid, window):
        x = torch.randn(2, *grid, 3)
        windows = to_windows(x, window)
        down, across = math.ceil(grid[1] / window[0]), math.ceil(grid[2] / window[1])
        assert windows.shape == (2 * down * across, grid[0] * window[0] * window[1], 3)
        assert torch.equal(from_windows(windows, *grid, window), x)
        mask = window_mask(*grid, window)
        assert mask.shape == (down * across, windows.shape[1]) and mask.sum() == math.prod(grid)
        assert (windows.unflatten(0, (2, -1)).abs().sum((0, 3)) > 0).equal(mask)
        # Real tokens of window after window are the scan order of the same windows.
        order = window_orders(*grid, window)[0].long()
        assert torch.equal(windows[: down * across][mask], x[0].flatten(0, 2)[order])


def test_distances_of_the_paper_s_argument():
    """Steps between neighbours in time, height and width on 5 frames of 64 x 48 tokens."""
    orders = space_time_orders(5, 64, 48, unified_pair="h_v").long()
    steps = {}
    for name, row in {"htw": 0, "wth": 3, "thw": 1, "hwt": 2}.items():
        at = orders[row].argsort().view(5, 64, 48)
        steps[name] = [(at[i] - at[0, 0, 0]).item() for i in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    assert steps == {"htw": [48, 240, 1], "wth": [64, 1, 320], "thw": [3072, 48, 1], "hwt": [1, 240, 5]}
    inside = window_orders(5, 64, 48, (8, 6))[0].long().argsort().view(5, 64, 48)
    assert [(inside[i] - inside[0, 0, 0]).item() for i in ((1, 0, 0), (0, 1, 0), (0, 0, 1))] == [48, 6, 1]


@pytest.mark.parametrize(("paths", "pair"), [(3, "h_v"), (8, "h_v"), (6, "v_h"), ("6", "h_v")])
def test_unknown_paths_are_refused(paths, pair):
    with pytest.raises(ConfigError, match="found '?(3|8|v_h|6)"):
        space_time_orders(2, 2, 2, paths, pair)


@pytest.mark.parametrize("shared", [False, True])
def test_s6_is_one_selective_scan_per_path(shared):
    torch.manual_seed(0)
    width, rank, state, grid = 6, 2, 3, (2, 3, 4)
    s6 = S6Paths(width, rank, state, 6, shared, backend="reference").double()
    orders, u = space_time_orders(*grid), torch.randn(2, 24, width).double()
    each = []
    for k, order in enumerate(orders.long()):
        i = 0 if shared else k
        x = u[:, order]
        dt, b, c = (x @ s6.x_proj_weight[i].T).split([rank, state, state], dim=-1)
        rows = slice(i * width, (i + 1) * width)
        y = selective_scan(
            x.mT,
            (dt @ s6.dt_projs_weight[i].T).mT,
            -s6.A_logs[rows].exp(),
            b.mT,
            c.mT,
            s6.Ds[rows],
            s6.dt_projs_bias[i],
            delta_softplus=True,
            backend="reference",
        )
        each.append(y.mT[:, order.argsort()])
    expected = torch.stack(each, dim=1)
    for backend in ("reference", "auto"):
        s6.backend = backend
        torch.testing.assert_close(s6(u, orders, merge=False), expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(s6(u, orders, merge=True), expected.sum(1), rtol=1e-9, atol=1e-9)
    assert sum(p.numel() for p in s6.parameters()) == (1 if shared else 6) * width * (2 * rank + 3 * state + 2)


def test_s6_starts_as_mamba_does():
    s6 = S6Paths(32, 2, 4, 2)
    steps = torch.nn.functional.softplus(s6.dt_projs_bias)
    assert steps.min() > 0.99e-3 and steps.max() < 1.01e-1
    torch.testing.assert_close(s6.A_logs.exp(), torch.arange(1.0, 5).expand(64, 4))
    assert (s6.Ds == 1).all() and s6.dt_projs_weight.abs().max() <= 2**-0.5


def test_sine_cosine_grid():
    table = sine_cosine_grid(3, 5, 8)
    for h, w in itertools.product(range(3), range(5)):
        expected = [f(p * 10000 ** (-i / 2)) for p in (h, w) for f in (math.sin, math.cos) for i in range(2)]
        torch.testing.assert_close(table[h, w], torch.tensor(expected), rtol=1e-5, atol=1e-6)
    with pytest.raises(ConfigError, match="found 6"):
        sine_cosine_grid(3, 5, 6)


def test_channel_attention():
    torch.manual_seed(0)
    layer, x = ChannelAttention(3, 8, 4), torch.randn(2, 3, 4, 5, 8)
    assert layer.fc1.out_features == 6
    means = torch.stack([torch.cat([clip[t].mean((0, 1)) for t in range(3)]) for clip in x])
    weights = torch.sigmoid(
        torch.relu(means @ layer.fc1.weight.T + layer.fc1.bias) @ layer.fc2.weight.T + layer.fc2.bias
    )
    torch.testing.assert_close(layer(x).reshape(2, 3, 8), weights.view(2, 3, 8))
    with pytest.raises(ConfigError, match="frames \\* dim = 24, found 25"):
        ChannelAttention(3, 8, 25)

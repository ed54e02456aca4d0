import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from posescale.errors import PosescaleError
from posescale.layers import Attention
from posescale.measure.counting import count
from posescale.measure.instrumented import counted_scan_flops, operations, recurrence
from posescale.measure.operators import ELEMENTWISE, FREE, REDUCTIONS
from posescale.measure.parameters import count_parameters
from posescale.measure.traffic import compulsory_traffic, saved_for_backward
from posescale.ops import multi_scan, selective_scan


class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def counted(function, *shapes, device="meta"):
    return count(Call(function), *(torch.zeros(s, device=device) for s in shapes))


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize(
    ("function", "shapes", "macs"),
    [
        (lambda a, b: a @ b, [(3, 4), (4, 5)], 60),
        (lambda a, b: a @ b, [(2, 3, 4), (2, 4, 5)], 120),
        (lambda a, b: a @ b, [(7, 1, 3, 4), (4, 5)], 420),
        (lambda a, b: a @ b, [(4,), (4,)], 4),
        (lambda a, b: a @ b, [(3, 4), (4,)], 12),
        (lambda x, w, b: F.linear(x, w, b), [(2, 3, 4), (5, 4), (5,)], 120),
        (lambda x, w: F.linear(x, w), [(2, 3, 4), (5, 4)], 120),
        (lambda a, b: torch.einsum("bij,bjk->bik", a, b), [(2, 3, 4), (2, 4, 5)], 120),
        (lambda c, a, b: torch.baddbmm(c, a, b), [(2, 3, 5), (2, 3, 4), (2, 4, 5)], 120),
        (lambda c, a, b: torch.addmm(c, a, b), [(3, 5), (3, 4), (4, 5)], 60),
        (lambda x, w: F.conv1d(x, w, dilation=2), [(2, 4, 11), (6, 4, 3)], 2 * 6 * 7 * 4 * 3),
        (lambda x, w: F.conv2d(x, w, padding=1, groups=4), [(2, 4, 5, 6), (4, 1, 3, 3)], 2 * 4 * 30 * 9),
        (lambda x, w: F.conv2d(x, w, stride=2, groups=2), [(1, 4, 9, 9), (6, 2, 3, 3)], 6 * 16 * 2 * 9),
        (lambda x, w: F.conv_transpose2d(x, w, stride=2), [(1, 4, 3, 3), (4, 5, 2, 2)], 4 * 9 * 5 * 4),
        (F.scaled_dot_product_attention, [(2, 3, 7, 4)] * 3, 2 * 2 * 3 * 7 * 7 * 4),
        (F.scaled_dot_product_attention, [(2, 3, 7, 4), (2, 3, 9, 4), (2, 3, 9, 4)], 2 * 2 * 3 * 7 * 9 * 4),
        (lambda x: x + x.exp(), [(3, 4)], 0),
    ],
)
def test_contractions_by_hand(function, shapes, macs, device):
    result = counted(function, *shapes, device=device)
    assert (result.contractions, dict(result.uncounted)) == (macs, {})


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_fused_and_naive_attention_do_the_same_products(device):
    x = torch.zeros(2, 9, 8, device=device)
    fused, naive = (count(Attention(8, 2, kernel=kernel).to(device).eval(), x) for kernel in ("fused", "naive"))
    assert fused.contractions == naive.contractions == 2 * (9 * 8 * 32 + 2 * 9 * 9 * 8)
    assert fused.elementwise >= 2 * 2 * 9 * 9 * 4  # softmax of every score


def test_fused_cpu_attention_is_not_the_zero_of_torchs_own_counter():
    x = torch.zeros(2, 2, 9, 4)
    with FlopCounterMode(display=False) as theirs:
        F.scaled_dot_product_attention(x, x, x)
    assert theirs.get_total_flops() in (0, 2 * 2 * 2 * 2 * 9 * 9 * 4)  # 0 up to at least torch 2.13
    assert (
        counted(F.scaled_dot_product_attention, *[(2, 2, 9, 4)] * 3, device="cpu").contractions == 2 * 2 * 2 * 9 * 9 * 4
    )


def test_fast_path_of_multihead_attention_is_counted_or_named():
    layer = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    result = count(Call(lambda x: layer(x, x, x)[0]), torch.zeros(2, 5, 8))
    assert result.uncounted or result.contractions == 2 * (5 * 8 * 32 + 2 * 25 * 8)


def test_elementwise_and_reductions_by_hand():
    assert counted(lambda x: x * 2 + 1, (3, 4)).elementwise == 24
    assert counted(lambda x: x.mean(-1), (3, 4)).elementwise == 12
    assert counted(lambda x: F.gelu(x), (3, 4)).elementwise == 60
    assert counted(lambda x: F.layer_norm(x, (4,)), (3, 4)).elementwise == 84
    assert counted(lambda x: x.softmax(-1), (3, 4)).elementwise == 48
    assert counted(lambda x: x.permute(1, 0).reshape(-1)[:3].clone(), (3, 4)).elementwise == 0


def test_fourier_transforms_by_hand():
    assert counted(lambda x: torch.fft.rfft(x, dim=0), (16, 3)).elementwise == 2.5 * 16 * 4 * 3
    assert counted(lambda x: torch.fft.irfft(torch.fft.rfft(x)), (3, 16)).elementwise == 2 * 2.5 * 16 * 4 * 3


def test_prices_do_not_overlap():
    tables = [set(ELEMENTWISE), set(REDUCTIONS), set(FREE)]
    assert sum(map(len, tables)) == len(set.union(*tables))


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: torch.cdist(x, x), "_cdist_forward"),
        (lambda x: torch.linalg.inv(x + torch.eye(4)), "linalg_inv"),
        (lambda x: torch.special.bessel_j0(x), "bessel"),
    ],
)
def test_an_operator_nothing_prices_is_named(function, name):
    result = counted(function, (4, 4), device="cpu")
    assert any(name in op for op in result.uncounted), result.uncounted


def test_a_custom_operator_nothing_prices_is_named():
    @torch.library.custom_op("posescale_tests::secret", mutates_args=())
    def secret(x: torch.Tensor) -> torch.Tensor:
        return x @ x

    assert counted(secret, (4, 4), device="cpu").uncounted == {"posescale_tests::secret": 1}


def test_leaving_torch_is_named():
    result = counted(lambda x: torch.from_numpy(x.numpy() * 2), (4, 4), device="cpu")
    assert result.uncounted == {"torch.Tensor.numpy": 1}


def _multi(device, b=2, s=2, length=6, d=4, n=3, k=4, r=2):
    def zeros(*shape):
        return torch.zeros(shape, device=device)

    orders = torch.arange(length, device=device).repeat(k, 1)
    inputs = (zeros(b, s, length, d), zeros(b, length, k, r + 2 * n), zeros(k, d, r), zeros(k, d), zeros(k * d, n),
              zeros(k * d), orders, [0, 1, 0, 1])  # fmt: skip
    return inputs, b * length * d * k, n, r


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_multi_scan(device):
    inputs, steps, n, r = _multi(device)
    result = count(Call(lambda *x: multi_scan(*x)), *inputs)
    assert dict(result.uncounted) == {}
    assert (result.contractions, result.scan, result.skip) == (steps * r, steps * (9 * n + 1), steps)
    assert result.mac_equivalent == steps * r + steps * 9 * n / 2 + steps
    with FlopCounterMode(display=False) as theirs, torch.no_grad():
        multi_scan(*inputs)
    assert theirs.get_total_flops() == result.flops_with_scan


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_selective_scan(device):
    b, d, length, n = 2, 4, 6, 3
    x, a, bc = (torch.zeros(s, device=device) for s in ((b, d, length), (d, n), (b, n, length)))
    result = count(Call(lambda *t: selective_scan(*t)), x, x, a, bc, bc)
    assert (result.contractions, result.scan) == (0, b * d * length * (9 * n + 1))


@pytest.mark.parametrize(("length", "channels", "states"), [(1, 1, 1), (5, 3, 2), (4, 2, 16)])
def test_the_convention_is_what_the_recurrence_does(length, channels, states):
    assert counted_scan_flops(length, channels, states) == length * channels * (9 * states + 1)


def test_the_instrumented_recurrence_is_the_selective_scan():
    torch.manual_seed(0)
    u, delta = torch.randn(1, 1, 7).double(), torch.rand(1, 1, 7).double()
    a, b, c, skip = -torch.rand(1, 3).double(), torch.randn(1, 3, 7).double(), torch.randn(1, 3, 7).double(), 0.7
    y, tally = recurrence(
        u[0, 0].tolist(), delta[0, 0].tolist(), a[0].tolist(), b[0].t().tolist(), c[0].t().tolist(), skip
    )
    expected = selective_scan(u, delta, a, b, c, torch.tensor([skip], dtype=torch.float64), backend="reference")
    assert y == pytest.approx(expected[0, 0].tolist(), abs=1e-12)
    assert tally == {"multiply": 7 * (5 * 3 + 1), "add": 7 * 2 * 3, "exp": 7 * 3}
    assert operations(tally) == 7 * (9 * 3 + 1)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(4, 6)
        self.head = nn.Linear(6, 4)
        self.again = self.embed
        self.table = nn.Parameter(torch.zeros(5))
        self.table_too = self.table
        self.frozen = nn.Parameter(torch.zeros(3), requires_grad=False)
        self.norm = nn.BatchNorm1d(6)
        self.register_buffer("kept", torch.zeros(7))
        self.register_buffer("temporary", torch.zeros(9), persistent=False)


def test_parameters_are_told_apart():
    result = count_parameters(Tied())
    layers = (4 * 6 + 6) + (6 * 4 + 4) + 12
    assert (result.total, result.trainable, result.frozen) == (layers + 8, layers + 5, 3)
    assert (result.bare, result.buffers) == (8, 13 + 7 + 9)


def test_a_state_dict_that_hides_tensors_is_an_error():
    class Hiding(nn.Linear):
        def state_dict(self, *args, **kwargs):
            return {}

    with pytest.raises(PosescaleError, match="state_dict holds 0 elements"):
        count_parameters(Hiding(2, 2))


def test_compulsory_traffic():
    model = nn.Linear(3, 5)
    traffic = compulsory_traffic(model, torch.zeros(2, 3))
    assert (traffic.inputs, traffic.weights, traffic.outputs, traffic.total) == (24, 80, 40, 144)


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_saved_for_backward(device):
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).to(device)
    x = torch.zeros(7, 3, device=device)
    # kept: the input, and tanh's output, which serves tanh and the second layer; weights do not count
    assert saved_for_backward(model, x) == 7 * 3 * 4 + 7 * 5 * 4

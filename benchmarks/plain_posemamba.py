"""PoseMamba with the plain data flow of the published code, to measure the suite's token-major one against.

Every mixer works channel-major: four scan orders are written out as copies (transposed, flipped), projected by K-fold
einsums, scanned as (B, K D, L), flipped back, added and transposed. Weights and results are those of `SS2D`.
"""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posescale.layers.ss2d import SS2D
from posescale.ops import selective_scan

ScanFunction = Callable[..., Tensor]  # (u, delta, A, B, C, D, delta_bias) -> y, as `selective_scan`


def loop(*inputs: Tensor) -> Tensor:
    """The best scan in pure torch."""
    return selective_scan(*inputs, delta_softplus=True, backend="torch")


def native(*inputs: Tensor) -> Tensor:
    """The compiled scan, called as a drop-in."""
    return selective_scan(*inputs, delta_softplus=True, backend="native")


def removed(u: Tensor, *_: Tensor) -> Tensor:
    """No scan: everything around it is left."""
    return u


class PlainMixer(nn.Module):
    """`SS2D` (scan `v2_plus_poselimbs`, exact gradient), one copy per direction."""

    def __init__(self, mixer: SS2D, scan: ScanFunction) -> None:
        super().__init__()
        self.mixer, self.scan = mixer, scan
        self.register_buffer("limbs", torch.tensor(mixer.limbs), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        m = self.mixer
        x, z = m.in_proj(x).chunk(2, dim=-1)
        z = F.silu(z)
        x = F.silu(m.conv2d(x.permute(0, 3, 1, 2).contiguous()))
        b, d, t, j = x.shape
        length, (k, _, r), n = t * j, m.dt_projs_weight.shape, m.A_logs.shape[1]
        first = torch.stack([(x + x[..., self.limbs]).flatten(2), x.transpose(2, 3).flatten(2)], dim=1)
        xs = torch.cat([first, first.flip(-1)], dim=1)
        parts = torch.einsum("bkdl,kcd->bkcl", xs, m.x_proj_weight)
        dts, B, C = torch.split(parts, [r, n, n], dim=2)
        dts = torch.einsum("bkrl,kdr->bkdl", dts, m.dt_projs_weight)
        ys = self.scan(
            xs.reshape(b, -1, length),
            dts.contiguous().view(b, -1, length),
            -m.A_logs.exp(),
            B.contiguous(),
            C.contiguous(),
            m.Ds,
            m.dt_projs_bias.flatten(),
        ).view(b, k, d, length)
        both = ys[:, :2] + ys[:, 2:].flip(-1)
        y = both[:, 0] + both[:, 1].reshape(b, d, j, t).transpose(2, 3).reshape(b, d, length)
        y = m.out_norm(y.transpose(1, 2).contiguous()).view(b, t, j, d)
        return m.out_proj(y * z)


def plain(model: nn.Module, scan: ScanFunction) -> nn.Module:
    """A copy of a PoseMamba whose mixers take the plain data flow, with the same weights."""
    model = copy.deepcopy(model)
    for stream in (model.STEblocks, model.TTEblocks):
        for block in stream:
            block.op = PlainMixer(block.op, scan)
    return model

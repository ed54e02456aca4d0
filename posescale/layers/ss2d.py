"""The 2-D selective-scan mixer over the (frames, joints) plane, four scans of all T * J tokens.

VMamba's SS2D (Liu et al., 2024, version 2) as PoseMamba uses it. Tokens stay rows `(..., L = T * J, D)` from end to
end: a direction is an order in which rows are visited, so nothing is flipped, permuted or copied K times.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from posescale.errors import ConfigError
from posescale.ops import multi_scan
from posescale.ops.checks import checked_permutations

Scan = Literal["v2_plus_poselimbs", "v2", "fs_ft", "fs_bt", "bs_ft", "bs_bt"]
Gradient = Literal["exact", "official"]

# Each scan's four directions: which axis runs fastest, and which axes are visited backwards.
# "fs/bs": joints forward or backward within a frame; "ft/bt": frames forward or backward within a joint.
_DIRECTIONS: dict[str, tuple[str, str, str, str]] = {
    "v2_plus_poselimbs": ("fs", "ft", "fs reversed", "ft reversed"),
    "v2": ("fs", "ft", "fs reversed", "ft reversed"),
    "fs_ft": ("fs", "ft", "fs", "ft"),
    "fs_bt": ("fs", "bt", "fs", "bt"),
    "bs_ft": ("bs", "ft", "bs", "ft"),
    "bs_bt": ("bs", "bt", "bs", "bt"),
}
SCANS = tuple(_DIRECTIONS)


def _order(direction: str, frames: int, joints: int, device: torch.device) -> torch.Tensor:
    """`(L,)`: the token `t * J + j` visited at each position."""
    tokens = torch.arange(frames * joints, device=device).view(frames, joints)
    rows = {
        "fs": lambda: tokens,
        "bs": lambda: tokens.flip(1),
        "ft": lambda: tokens.t(),
        "bt": lambda: tokens.t().flip(1),
    }[direction[:2]]()
    order = rows.reshape(-1)
    return order.flip(0) if direction.endswith("reversed") else order


def _scan_orders(scan: Scan, frames: int, joints: int, device: torch.device) -> torch.Tensor:
    with torch.inference_mode(False):  # a table made for inference could not serve a later backward
        return torch.stack([_order(direction, frames, joints, device) for direction in _DIRECTIONS[scan]])


def _joint_index(joints: tuple[int, ...], device: torch.device) -> torch.Tensor:
    with torch.inference_mode(False):
        return torch.tensor(joints, device=device)


def _kept(table: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Keep a constant table per arguments and device: outside the state_dict, which the official files fix.

    While a compiler or a fake tensor traces the model the table is rebuilt, so that no traced value is kept.
    """
    kept = lru_cache(maxsize=256)(table)

    def lookup(*arguments: object, like: torch.Tensor) -> torch.Tensor:
        tracing = torch.compiler.is_compiling() or type(like) is not torch.Tensor
        return (table if tracing else kept)(*arguments, like.device)

    lookup.cache_clear = kept.cache_clear
    return lookup


_kept_orders = _kept(_scan_orders)
joint_index = _kept(_joint_index)


@torch.library.custom_op("posescale::scan_orders", mutates_args=())
def _compiled_orders(scan: str, frames: int, joints: int, like: torch.Tensor) -> torch.Tensor:
    """A copy of the kept table, made and checked once: an operator may not hand out the same tensor twice."""
    with torch.inference_mode(False):  # whose tensors could not be remembered as checked
        return checked_permutations(_kept_orders(scan, frames, joints, like=like).clone())


@_compiled_orders.register_fake
def _(scan: str, frames: int, joints: int, like: torch.Tensor) -> torch.Tensor:
    return like.new_empty(len(_DIRECTIONS[scan]), frames * joints, dtype=torch.int64)


def scan_orders(scan: Scan, frames: int, joints: int, like: torch.Tensor) -> torch.Tensor:
    """`(K, T * J)`: the token `t * J + j` that each direction visits at each position, on the device of `like`.

    One table is kept; a compiled model calls an operator for it, rather than building it with every block anew.
    """
    return (_compiled_orders if torch.compiler.is_compiling() else _kept_orders)(scan, frames, joints, like=like)


class SS2D(nn.Module):
    """`(B, T, J, C)` to `(B, T, J, C)`: gated, convolved, scanned in K = 4 directions, merged by a sum.

    z, h = in_proj(x); y = sum_k scan_k(SiLU(conv(h))); out = out_proj(LN(y) * SiLU(z)).

    Args:
        channels: C; the inner width is D = 2 C, the rank of the step size R = ceil(C / 16).
        state: N.
        scan: the four directions. `v2_plus_poselimbs` adds to each token, before the joint-fastest scans, the token
            of joint `limbs[j]` in the same frame; the others scan the tokens as they are.
        limbs: for each joint the joint added to it; read by `v2_plus_poselimbs` only.
        gradient: `exact`, or `official`: the published code's backward takes the added token for a constant.
        backend: of `posescale.ops.multi_scan`.

    Raises:
        ConfigError: for an unknown scan or gradient.
    """

    directions = 4

    def __init__(
        self,
        channels: int,
        state: int = 16,
        scan: Scan = "v2_plus_poselimbs",
        limbs: Sequence[int] = (),
        gradient: Gradient = "exact",
        backend: str = "auto",
    ) -> None:
        super().__init__()
        if scan not in SCANS or gradient not in ("exact", "official"):
            raise ConfigError(f"scan must be one of {', '.join(SCANS)} and gradient exact or official, "
                             f"found {scan!r} and {gradient!r}")  # fmt: skip
        self.scan, self.gradient, self.backend = scan, gradient, backend
        self.limbs = tuple(limbs) if scan == "v2_plus_poselimbs" else ()
        K, D, N, R = self.directions, 2 * channels, state, math.ceil(channels / 16)
        self.x_proj_weight = nn.Parameter(torch.empty(K, R + 2 * N, D))
        self.dt_projs_weight = nn.Parameter(torch.empty(K, D, R))
        self.dt_projs_bias = nn.Parameter(torch.empty(K, D))
        self.A_logs = nn.Parameter(torch.empty(K * D, N))
        self.Ds = nn.Parameter(torch.empty(K * D))
        self.out_norm = nn.LayerNorm(D)
        self.in_proj = nn.Linear(channels, 2 * D, bias=False)
        self.conv2d = nn.Conv2d(D, D, kernel_size=3, padding=1, groups=D)
        self.out_proj = nn.Linear(D, channels, bias=False)
        self.reset_scan_parameters()

    @torch.no_grad()
    def reset_scan_parameters(self, dt_max: float = 1e-1) -> None:
        """Mamba's start: A = -1..-N, skip 1, steps log-uniform in 1e-3..dt_max, default Linear projections."""
        N, (_, D, R) = self.A_logs.shape[1], self.dt_projs_weight.shape
        nn.init.uniform_(self.x_proj_weight, -(D**-0.5), D**-0.5)
        nn.init.uniform_(self.dt_projs_weight, -(R**-0.5), R**-0.5)
        dt = torch.empty_like(self.dt_projs_bias).uniform_(math.log(1e-3), math.log(dt_max)).exp_().clamp_(min=1e-4)
        self.dt_projs_bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # softplus of it is dt
        self.A_logs.copy_(torch.arange(1.0, N + 1).log().expand_as(self.A_logs))
        nn.init.ones_(self.Ds)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Mix the T * J tokens of each clip."""
        h, z = self.in_proj(x).chunk(2, dim=-1)
        h = F.silu(self.conv2d(h.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        return self.out_proj(self.out_norm(self.scan_tokens(h)) * F.silu(z))

    def scan_tokens(self, h: torch.Tensor) -> torch.Tensor:
        """The selective scan along the four orders, `(B, T, J, D)` to `(B, T, J, D)`.

        s_p = exp(delta_p A) s_{p-1} + delta_p B_p u_p;  y_p = C_p s_p + Ds u_p;  [dt, B, C] = x_proj u,
        delta = softplus(dt_proj dt + bias). The state runs on across frames and joints and is never reset;
        it is kept in float32, or float64 for a float64 model.
        """
        batch, frames, joints, width = h.shape
        u = self.sources(h)
        y = multi_scan(
            u.transpose(0, 1).flatten(2, 3),
            self.project(h).flatten(1, 2),
            self.dt_projs_weight,
            self.dt_projs_bias,
            -self.A_logs.exp(),
            self.Ds,
            scan_orders(self.scan, frames, joints, like=h),
            (0, 1, 0, 1) if self.limbs else (0, 0, 0, 0),
            backend=self.backend,
        )
        return y.reshape(batch, frames, joints, width)

    def sources(self, h: torch.Tensor) -> torch.Tensor:
        """What the directions read, `(1 or 2, B, T, J, D)`: first h[t, j] + h[t, P[j]] if there are limbs, then h.

        The official backward misses the term of P.
        """
        if not self.limbs:
            return h.unsqueeze(0)
        limb = h.index_select(2, joint_index(self.limbs, like=h))
        return torch.stack([h + (limb.detach() if self.gradient == "official" else limb), h])

    def project(self, h: torch.Tensor) -> torch.Tensor:
        """`(B, T, J, D)` to `(B, T, J, K, R + 2 N)` = dt, B, C of each direction.

        One product serves both sources, since W (h[j] + h[P[j]]) = W h[j] + W h[P[j]].
        """
        weight = self.x_proj_weight
        proj = F.linear(h, weight.flatten(0, 1)).unflatten(-1, weight.shape[:2])
        if not self.limbs:
            return proj
        with_limbs = proj[..., ::2, :]
        limb = with_limbs
        if self.gradient == "official" and torch.is_grad_enabled():  # h[P[j]] is a constant there, W is not
            limb = F.linear(h.detach(), weight[::2].flatten(0, 1)).unflatten(-1, limb.shape[-2:])
        with_limbs += limb.index_select(2, joint_index(self.limbs, like=h))
        return proj

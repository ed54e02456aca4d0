"""The selective scan (Mamba's S6) along K given paths through the same tokens."""

import torch
import torch.nn.functional as F
from torch import nn

from posescale.layers.ss2d import SS2D
from posescale.ops import multi_scan


class S6Paths(nn.Module):
    """K selective scans of the same L tokens, each in its own order.

    [dt, B, C]_j = W_x u_j; delta_j = softplus(W_dt dt_j + b); s_j = exp(delta_j A) s_{j-1} + delta_j B_j u_j;
    y_j = C_j s_j + Ds u_j. Weights belong to a path, or are shared by all.

    Args:
        width: D.
        rank: R of the step size.
        state: N.
        paths: K.
        shared: one set of weights for all paths.
        backend: of `posescale.ops.multi_scan`.
        dt_max: largest step at the start; Mamba's 0.1 keeps a token's trace for tens of steps, 1 for a few.
    """

    def __init__(
        self, width: int, rank: int, state: int, paths: int, shared: bool = False, backend: str = "auto",
        dt_max: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.width, self.paths, self.backend = width, paths, backend
        sets = 1 if shared else paths
        self.x_proj_weight = nn.Parameter(torch.empty(sets, rank + 2 * state, width))
        self.dt_projs_weight = nn.Parameter(torch.empty(sets, width, rank))
        self.dt_projs_bias = nn.Parameter(torch.empty(sets, width))
        self.A_logs = nn.Parameter(torch.empty(sets * width, state))
        self.Ds = nn.Parameter(torch.empty(sets * width))
        self.reset_scan_parameters(dt_max)

    reset_scan_parameters = SS2D.reset_scan_parameters  # the same parameters, the same start

    def forward(self, u: torch.Tensor, orders: torch.Tensor, merge: bool) -> torch.Tensor:
        """Scan `(B, L, D)` along `orders` (K, L).

        Returns:
            `(B, L, D)`, the paths added, or `(B, K, L, D)`; every result at its token's row.
        """
        sets, width = self.dt_projs_bias.shape
        each = (self.paths, -1, -1)
        proj = F.linear(u, self.x_proj_weight.flatten(0, 1)).unflatten(-1, (sets, -1))
        return multi_scan(
            u[:, None],
            proj.expand(-1, -1, self.paths, -1),
            self.dt_projs_weight.expand(each),
            self.dt_projs_bias.expand(each[:2]),
            -self.A_logs.exp().view(sets, width, -1).expand(each).flatten(0, 1),
            self.Ds.view(sets, width).expand(each[:2]).flatten(),
            orders,
            (0,) * self.paths,
            merge=merge,
            backend=self.backend,
        )

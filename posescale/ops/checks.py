"""What the operators accept, refused in readable words before any kernel sees it.

Shapes only are read here, so the checks cost microseconds and also run on fake tensors; the content of an order table
is checked once per table by `check_permutations`.
"""

from collections.abc import Sequence

import torch
from torch.utils.weak import WeakIdKeyDictionary

_FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_CHECKED = WeakIdKeyDictionary()  # order table -> its version when it was checked


def check_selective(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None,
    delta_bias: torch.Tensor | None,
) -> None:
    """Refuse inputs of `selective_scan` whose shapes, types or devices do not fit together.

    Raises:
        ValueError: a shape does not fit, or tensors lie on several devices.
        TypeError: an input is not a real floating-point tensor.
    """
    op = "selective_scan"
    named = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "delta_bias": delta_bias}
    _check_tensors(op, named)
    if u.ndim != 3 or A.ndim != 2:
        _refuse(op, "u must be (b, d, l) and A (d, n)", u=u, A=A)
    (b, d, length), n = u.shape, A.shape[1]
    _expect(op, "delta", delta, (b, d, length))
    _expect(op, "A", A, (d, n))
    for name, x in (("B", B), ("C", C)):
        if x.ndim not in (3, 4):
            _refuse(op, f"{name} must be (b, n, l) or (b, g, n, l): input-dependent", **{name: x})
        groups = x.shape[1] if x.ndim == 4 else 1
        if groups == 0 or d % groups:
            _refuse(op, f"the {groups} groups of {name} must divide d = {d}", **{name: x})
        _expect(op, name, x, (b, n, length) if x.ndim == 3 else (b, groups, n, length))
    if B.shape != C.shape:
        _refuse(op, "B and C must have the same shape", B=B, C=C)
    for name, x in (("D", D), ("delta_bias", delta_bias)):
        if x is not None:
            _expect(op, name, x, (d,))


def check_multi(
    u: torch.Tensor,
    proj: torch.Tensor,
    dt_weight: torch.Tensor,
    dt_bias: torch.Tensor,
    A: torch.Tensor,
    D: torch.Tensor,
    orders: torch.Tensor,
    sources: Sequence[int],
) -> None:
    """Refuse inputs of `multi_scan` whose shapes, types or devices do not fit together.

    Raises:
        ValueError: a shape or a source index does not fit, or tensors lie on several devices.
        TypeError: an input is not a real floating-point tensor, or `orders` not an integer one.
    """
    op = "multi_scan"
    named = {"u": u, "proj": proj, "dt_weight": dt_weight, "dt_bias": dt_bias, "A": A, "D": D}
    _check_tensors(op, named)
    if u.ndim != 4 or dt_weight.ndim != 3 or A.ndim != 2:
        _refuse(op, "u must be (B, S, L, D), dt_weight (K, D, R) and A (K*D, N)", u=u, dt_weight=dt_weight, A=A)
    (b, s, length, d), (k, _, r), n = u.shape, dt_weight.shape, A.shape[1]
    _expect(op, "dt_weight", dt_weight, (k, d, r))
    _expect(op, "proj", proj, (b, length, k, r + 2 * n))
    _expect(op, "dt_bias", dt_bias, (k, d))
    _expect(op, "A", A, (k * d, n))
    _expect(op, "D", D, (k * d,))
    _expect(op, "orders", orders, (k, length))
    if orders.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"{op}: orders must be int32 or int64, found {orders.dtype}")
    if orders.device != u.device:
        _refuse(op, f"orders must lie on u's device {u.device}, found {orders.device}", orders=orders)
    if len(sources) != k or not all(0 <= source < s for source in sources):
        _refuse(op, f"sources must be {k} indices below S = {s}, found {tuple(sources)}", u=u, dt_weight=dt_weight)


def check_deform(
    x: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    groups: int,
) -> None:
    """Refuse inputs of `deform_conv2d` whose shapes, types or devices do not fit together.

    Raises:
        ValueError: a shape does not fit, or tensors lie on several devices.
        TypeError: an input is not a real floating-point tensor.
    """
    op = "deform_conv2d"
    _check_tensors(op, {"x": x, "offset": offset, "mask": mask, "weight": weight, "bias": bias})
    if x.ndim != 4 or weight.ndim != 4 or 0 in x.shape[1:] or weight.shape[2] % 2 == 0 or weight.shape[3] % 2 == 0:
        _refuse(op, "x must be (N, C, H, W), weight (O, C / groups, kh, kw) with kh and kw odd", x=x, weight=weight)
    (n, c, h, w), (out, _, down, right) = x.shape, weight.shape
    if groups < 1 or c % groups or out % groups:
        _refuse(op, f"groups must divide C and O, found {groups}", x=x, weight=weight)
    _expect(op, "weight", weight, (out, c // groups, down, right))
    _expect(op, "offset", offset, (n, 2 * down * right, h, w))
    _expect(op, "mask", mask, (n, down * right, h, w))
    if bias is not None:
        _expect(op, "bias", bias, (out,))


def check_permutations(orders: torch.Tensor) -> None:
    """Refuse an order table (K, L) with a row that is no permutation of 0..L-1; remembered for a table seen before.

    Raises:
        ValueError: some token is missing or out of range.
    """
    version = None if orders.is_inference() else orders._version  # inference tensors do not count their changes
    if (version is not None and _CHECKED.get(orders) == version) or not orders.numel():
        return
    length = orders.shape[1]
    inside = ((orders >= 0) & (orders < length)).all(1)
    seen = torch.zeros(orders.shape, dtype=torch.bool, device=orders.device)
    seen.scatter_(1, orders.long().clamp(0, length - 1), True)
    good = (inside & seen.all(1)).tolist()
    if not all(good):
        raise ValueError(
            f"multi_scan: row {good.index(False)} of orders is not a permutation of 0..{length - 1}; "
            "every direction must visit every token once"
        )
    _CHECKED[orders] = version


def checked_permutations(orders: torch.Tensor) -> torch.Tensor:
    """Remember an order table, made so, as one that `check_permutations` accepts; returns it."""
    _CHECKED[orders] = orders._version
    return orders


def state_dtype(*tensors: torch.Tensor | None) -> torch.dtype:
    """The type in which a scan keeps its state: float64 if any input is float64, else float32."""
    return torch.float64 if any(x is not None and x.dtype == torch.float64 for x in tensors) else torch.float32


def _check_tensors(op: str, named: dict[str, torch.Tensor | None]) -> None:
    devices = {}
    for name, x in named.items():
        if x is None:
            continue
        if not isinstance(x, torch.Tensor) or x.dtype not in _FLOATING:
            raise TypeError(f"{op}: {name} must be a real floating-point tensor, found {getattr(x, 'dtype', type(x))}")
        devices[name] = x.device
    if len(set(devices.values())) > 1:
        raise ValueError(f"{op}: all tensors must lie on one device, found {devices}")


def _expect(op: str, name: str, x: torch.Tensor, shape: tuple[int, ...]) -> None:
    if tuple(x.shape) != shape:
        raise ValueError(f"{op}: {name} must have shape {shape} to fit the other inputs, found {tuple(x.shape)}")


def _refuse(op: str, rule: str, **found: torch.Tensor) -> None:
    shapes = ", ".join(f"{name} {tuple(x.shape)}" for name, x in found.items())
    raise ValueError(f"{op}: {rule}; found {shapes}")

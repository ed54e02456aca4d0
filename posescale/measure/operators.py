"""What one call of each operator costs. An operator in none of these tables makes a count invalid.

CONTRACTIONS: multiply-accumulates (MACs) of matrix products and convolutions; a bias is not counted.
The selective scans are priced in `posescale.measure.scan_prices`.
ELEMENTWISE: floating-point operations per output element, REDUCTIONS per input element; an elementary function (exp,
erf, sqrt) counts as one operation, like an addition.
TRANSFORMS: Fourier transforms, FLOPs of one call.
FREE: moving, creating, comparing and indexing; no arithmetic on the model's values.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import flop_counter

import posescale.ops.deform  # noqa: F401  its operator has a price

aten = torch.ops.aten
_deform = torch.ops.posescale.deform_conv2d


def _attention_macs(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any) -> int:
    return _scores(query, key) * (query.shape[-1] + value.shape[-1])


def _scores(query: torch.Tensor, key: torch.Tensor, *_: Any, **__: Any) -> int:
    return math.prod(query.shape[:-1]) * key.shape[-2]


def _by_torch(packet: Any) -> Callable[..., int]:
    formula = flop_counter.flop_registry[packet]
    return lambda *args, out, **kwargs: formula(*args, out_val=out, **kwargs) // 2


def _products(packet: Any, macs: Callable[..., int]) -> tuple[Any, Callable[..., int]]:
    return packet, lambda *args, out, **kwargs: macs(*args, **kwargs)


_ATTENTION = [
    aten._scaled_dot_product_flash_attention_for_cpu,
    aten._scaled_dot_product_flash_attention,
    aten._scaled_dot_product_efficient_attention,
    aten._scaled_dot_product_cudnn_attention,
    aten._scaled_dot_product_fused_attention_overrideable,
]

_PRICED_BY_TORCH = [aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.convolution, _deform]


def _reads(x: torch.Tensor, offset: torch.Tensor, mask: torch.Tensor, weight: torch.Tensor, *_: Any, **__: Any) -> int:
    """Per read 12 for its place in grid_sample's units; per channel read 7 as `grid_sampler_2d` and 1 for the mask."""
    return mask.numel() * (12 + 8 * x.shape[3]) + sum(weight.shape[2:])


# MACs of one call, from its arguments and its output.
CONTRACTIONS: dict[Any, Callable[..., int]] = {
    **{packet: _by_torch(packet) for packet in _PRICED_BY_TORCH},
    **dict(_products(packet, _attention_macs) for packet in _ATTENTION),
    **dict(_products(packet, lambda a, b: a.numel()) for packet in (aten.dot, aten.vdot, aten.mv)),
    **dict([_products(aten.addmv, lambda bias, a, b, **_: a.numel())]),
}

# What such a kernel does besides its products, FLOPs of one call: softmax and scaling, reads between pixels.
BESIDE: dict[Any, Callable[..., int]] = {
    **{packet: (lambda q, k, *_, **__: 5 * _scores(q, k)) for packet in _ATTENTION},
    _deform: _reads,
}


def _fourier(real: torch.Tensor, dims: list[int]) -> int:
    return round(2.5 * real.numel() * math.log2(math.prod(real.shape[dim] for dim in dims)))


# Fourier transforms of N real numbers, 2.5 N log2 N FLOPs; twice that for complex ones.
TRANSFORMS: dict[Any, Callable[..., int]] = {
    aten._fft_r2c: lambda x, dims, *_, out: _fourier(x, dims),
    aten._fft_c2r: lambda x, dims, *_, out: _fourier(out, dims),
    aten._fft_c2c: lambda x, dims, *_, out: 2 * _fourier(x, dims),
}


def _priced(**prices: str) -> dict[str, int]:
    return {name: int(cost[1:]) for cost, names in prices.items() for name in names.split()}


ELEMENTWISE: dict[str, int] = _priced(
    _1="""add sub rsub mul div neg abs reciprocal square pow exp exp2 expm1 log log1p log2 sqrt rsqrt sin cos tan tanh
    atan2 erf sigmoid relu threshold clamp clamp_min clamp_max maximum minimum fmod remainder floor_divide logaddexp
    cumsum cumprod sigmoid_backward""",
    _2="leaky_relu hardtanh prelu _prelu_kernel",
    _3="addcmul addcdiv lerp softplus hardswish hardsigmoid elu",
    _4="""silu _softmax _safe_softmax _log_softmax native_batch_norm _native_batch_norm_legit
    _native_batch_norm_legit_no_training""",
    _5="gelu mish",
    _7="native_layer_norm native_group_norm upsample_bilinear2d grid_sampler_2d",
)  # fmt: skip

REDUCTIONS: dict[str, int] = _priced(
    _1="sum mean nansum prod avg_pool2d _adaptive_avg_pool2d logsumexp",
    _2="norm linalg_vector_norm",
    _4="var var_mean std std_mean",
)  # fmt: skip

FREE: frozenset[str] = frozenset(
    """
    view _unsafe_view reshape _reshape_alias expand permute transpose t squeeze unsqueeze select slice narrow split
    split_with_sizes split_with_sizes_copy chunk unbind unfold as_strided alias detach lift_fresh view_as_real
    view_as_complex cat stack clone copy _to_copy contiguous repeat roll flip constant_pad_nd reflection_pad1d
    reflection_pad2d replication_pad1d replication_pad2d pixel_shuffle pixel_unshuffle index index_select index_put
    gather scatter take embedding masked_fill masked_select where tril triu diagonal diag_embed
    empty empty_like empty_strided empty_permuted new_empty new_empty_strided zeros zeros_like new_zeros ones ones_like
    new_ones full full_like new_full scalar_tensor arange linspace eye fill zero
    eq ne lt le gt ge logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not isnan isfinite
    isinf sign sort topk kthvalue argsort argmax argmin max min amax amin any all floor ceil round trunc
    max_pool2d_with_indices upsample_nearest2d
    bernoulli rand randn rand_like randn_like randperm uniform normal native_dropout
    is_same_size _local_scalar_dense equal
    """.split()
)


def plain_name(packet: Any) -> str:
    """`aten::add_` and `aten::add` are both `add`; operators of other libraries keep their library's name."""
    name = packet._qualified_op_name
    return name.removeprefix("aten::").rstrip("_") if name.startswith("aten::") else name

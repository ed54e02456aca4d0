"""What a selective scan costs in closed form, beside the operators.

Letters: B batch, K directions, L scan length, D channels of one direction, N states, R rank of the step size.
"""


def scan_flops(batch: int, directions: int, length: int, channels: int, states: int) -> int:
    """FLOPs of a scan by the field's convention, (9 N + 1) per token, channel and direction (9BLDN + BLD, VMamba).

    The 1 is the skip D x. Projections, the step size's low-rank product and softplus are not in it.
    """
    return batch * directions * length * channels * (9 * states + 1)


def dt_projection_macs(batch: int, directions: int, length: int, channels: int, rank: int) -> int:
    """Multiply-accumulates of the low-rank product that `multi_scan` does inside: B K L D R. FLOPs are twice that."""
    return batch * directions * length * channels * rank


def scan_bytes(
    batch: int,
    directions: int,
    length: int,
    channels: int,
    states: int,
    rank: int = 0,
    sources: int = 1,
    itemsize: int = 4,
) -> int:
    """Bytes that a fused forward `multi_scan` with merged directions must move at least, each tensor once.

    Read: u (B, S, L, D), proj (B, L, K, R + 2N), the order tables (int32) and the parameters; written: y (B, L, D).
    """
    tokens = batch * length * ((sources + 1) * channels + directions * (rank + 2 * states))
    parameters = directions * channels * (states + rank + 2)
    return itemsize * (tokens + parameters) + 4 * directions * length


def selective_scan_bytes(
    batch: int, length: int, channels: int, states: int, groups: int = 1, itemsize: int = 4
) -> int:
    """Bytes that a fused forward `selective_scan` must move at least: u, delta, B, C, A, D, bias in, y out."""
    tokens = batch * length * (3 * channels + 2 * groups * states)
    return itemsize * (tokens + channels * (states + 2))


def scan_backward_bytes(
    batch: int,
    directions: int,
    length: int,
    channels: int,
    states: int,
    rank: int = 0,
    sources: int = 1,
    itemsize: int = 4,
) -> int:
    """Bytes that a fused backward `multi_scan` with merged directions must move at least, each tensor once.

    Read: the inputs of the forward pass and dy (B, L, D); written: a gradient for every input but the order tables.
    """
    tokens = batch * length * (sources * channels + directions * (rank + 2 * states))
    parameters = directions * channels * (states + rank + 2)
    return itemsize * (2 * tokens + batch * length * channels + 2 * parameters) + 4 * directions * length


def deform_macs(images: int, pixels: int, outputs: int, inputs: int, taps: int) -> int:
    """Multiply-accumulates of a deformable convolution's product: per pixel O outputs of C / groups inputs, K taps."""
    return images * pixels * outputs * inputs * taps

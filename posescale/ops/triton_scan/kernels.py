"""Triton kernels of the fused multi-direction scan; equations at the head of native/scan.h.

One program walks CB channels (lanes) of one direction of one batch entry through one segment of the sequence; the
states are a (NP, CB) tile in registers, states along the first axis so that sums over states stay in a thread. NP and
RP are N and R rounded up to powers of two. A is in units of log 2: exp(dt A) = exp2(dt A').

Layouts (contiguous): x (B, S, L, D), proj (B, L, K, R + 2N), delta and ddelta (B, K, L, D), A (K, D, N), D and bias
(K, D), W (K, D, R), order (K, L), y and dy (B, Y, L, D) with Y = K or 1, states (B, K, chunks, N, D), ends (segments,
B, K, N, D), sums (segments, B, K, D).
"""

import triton
import triton.language as tl

LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _softplus(v, TERMS: tl.constexpr):
    """max(v, 0) + log1p(z), z = exp(-|v|), by log1p(z) = 2 artanh(z / (2 + z)); log(1 + z) would lose small z."""
    z = tl.exp(-tl.abs(v))
    q = z / (2 + z)
    series = tl.zeros_like(q)
    for i in tl.static_range(TERMS):
        series = series * (q * q) + 1.0 / (2 * (TERMS - 1 - i) + 1)
    return tl.where(v > 20, v, tl.maximum(v, 0) + 2 * q * series)


@triton.jit
def _slope(v):
    z = tl.exp(-tl.abs(v))
    return tl.where(v > 20, 1.0, tl.where(v < 0, z, 1.0) / (1 + z))


@triton.jit
def _step(proj, delta, at, W, bias, r, c, lanes, i, L, K, D, ROW, k, b,
          R: tl.constexpr, LOW_RANK: tl.constexpr, SOFTPLUS: tl.constexpr, TERMS: tl.constexpr):  # fmt: skip
    """Row i's dt-inputs (RP,), v and dt (CB,)."""
    low = tl.load(proj + at + r, mask=r < R, other=0)
    if LOW_RANK:
        v = tl.sum(W * low[:, None], axis=0) + bias
    else:
        v = tl.load(delta + ((b * K + k) * L + i) * D + c, mask=lanes, other=0) + bias
    if SOFTPLUS:
        dt = _softplus(v, TERMS)
    else:
        dt = v
    return low, v, dt


@triton.jit
def _parameters(A, W, bias, k, c, n, r, lanes, D, N: tl.constexpr, R: tl.constexpr):
    """A (NP, CB), W (RP, CB) and bias (CB,) of this program's channels, 0 outside."""
    rows = (k * D + c)[None, :]
    a = tl.load(A + rows * N + n[:, None], mask=(n[:, None] < N) & lanes[None, :], other=0)
    w = tl.load(W + rows * R + r[:, None], mask=(r[:, None] < R) & lanes[None, :], other=0)
    return a, w, tl.load(bias + k * D + c, mask=lanes, other=0)


@triton.jit
def _entering(ends, sums, a, first, last, step, b, k, c, n, valid, lanes, B, K, D, N: tl.constexpr):
    """The state that enters a segment: carried through the segments before it, each decayed by exp(A sum dt)."""
    h = tl.zeros_like(a)
    for s in range(first, last, step):
        row = (s * B + b) * K + k
        end = tl.load(ends + (row * N + n[:, None]) * D + c[None, :], mask=valid, other=0)
        total = tl.load(sums + row * D + c, mask=lanes, other=0)
        h = tl.exp2(a * total[None, :]) * h + end
    return h


@triton.jit
def segment_ends(x, proj, delta, dy, order, source, A, W, bias, ends, sums, B, S, L, K, D, Y, SEGMENT,
                 N: tl.constexpr, R: tl.constexpr, NP: tl.constexpr, RP: tl.constexpr, CB: tl.constexpr,
                 LOW_RANK: tl.constexpr, SOFTPLUS: tl.constexpr, TERMS: tl.constexpr,
                 REVERSE: tl.constexpr):  # fmt: skip
    """The state at each segment's end from zero at its start (REVERSE: the adjoint at its start), and sum dt."""
    b, k, segment = tl.program_id(1) // K, tl.program_id(1) % K, tl.program_id(2)
    c, n, r = tl.program_id(0) * CB + tl.arange(0, CB), tl.arange(0, NP), tl.arange(0, RP)
    lanes, ROW = c < D, R + 2 * N
    a, w, offset = _parameters(A, W, bias, k, c, n, r, lanes, D, N, R)
    h, total, start = tl.zeros_like(a), tl.zeros_like(offset), segment * SEGMENT
    steps = tl.minimum(SEGMENT, L - start)
    for j in range(steps):
        p = start + steps - 1 - j if REVERSE else start + j
        i = tl.load(order + k * L + p)
        at = ((b * L + i) * K + k) * ROW
        low, v, dt = _step(proj, delta, at, w, offset, r, c, lanes, i, L, K, D, ROW, k, b, R, LOW_RANK, SOFTPLUS, TERMS)
        total += dt
        decay = tl.exp2(dt[None, :] * a)
        if REVERSE:
            g = tl.load(dy + ((b * Y + k % Y) * L + i) * D + c, mask=lanes, other=0)
            C = tl.load(proj + at + R + N + n, mask=n < N, other=0)
            h = (h + g[None, :] * C[:, None]) * decay
        else:
            u = tl.load(x + ((b * S + tl.load(source + k)) * L + i) * D + c, mask=lanes, other=0)
            bn = tl.load(proj + at + R + n, mask=n < N, other=0)
            h = decay * h + (dt * u)[None, :] * bn[:, None]
    row = (segment * B + b) * K + k
    tl.store(ends + (row * N + n[:, None]) * D + c[None, :], h, mask=(n[:, None] < N) & lanes[None, :])
    tl.store(sums + row * D + c, total, mask=lanes)


@triton.jit
def forward(x, proj, delta, y, order, source, A, W, bias, skip, states, ends, sums, B, S, L, K, D, Y, SEGMENT, CHUNKS,
            N: tl.constexpr, R: tl.constexpr, NP: tl.constexpr, RP: tl.constexpr, CB: tl.constexpr,
            CHUNK: tl.constexpr, LOW_RANK: tl.constexpr, SOFTPLUS: tl.constexpr, TERMS: tl.constexpr,
            KEEP: tl.constexpr, ATOMIC: tl.constexpr):  # fmt: skip
    """Outputs of one segment, added (ATOMIC) or stored at the tokens' rows; KEEP: the state before every chunk."""
    b, k, segment = tl.program_id(1) // K, tl.program_id(1) % K, tl.program_id(2)
    c, n, r = tl.program_id(0) * CB + tl.arange(0, CB), tl.arange(0, NP), tl.arange(0, RP)
    lanes, ROW = c < D, R + 2 * N
    valid = (n[:, None] < N) & lanes[None, :]
    a, w, offset = _parameters(A, W, bias, k, c, n, r, lanes, D, N, R)
    d = tl.load(skip + k * D + c, mask=lanes, other=0)
    h = _entering(ends, sums, a, 0, segment, 1, b, k, c, n, valid, lanes, B, K, D, N)
    from_x, start = (b * S + tl.load(source + k)) * L, segment * SEGMENT
    for p in range(start, tl.minimum(start + SEGMENT, L)):
        if KEEP:
            if p % CHUNK == 0:
                chunk = (b * K + k) * CHUNKS + p // CHUNK
                tl.store(states + (chunk * N + n[:, None]) * D + c[None, :], h, mask=valid)
        i = tl.load(order + k * L + p)
        at = ((b * L + i) * K + k) * ROW
        low, v, dt = _step(proj, delta, at, w, offset, r, c, lanes, i, L, K, D, ROW, k, b, R, LOW_RANK, SOFTPLUS, TERMS)
        u = tl.load(x + (from_x + i) * D + c, mask=lanes, other=0)
        bn = tl.load(proj + at + R + n, mask=n < N, other=0)
        cn = tl.load(proj + at + R + N + n, mask=n < N, other=0)
        h = tl.exp2(dt[None, :] * a) * h + (dt * u)[None, :] * bn[:, None]
        out = tl.sum(h * cn[:, None], axis=0) + d * u
        to = y + ((b * Y + k % Y) * L + i) * D + c
        if ATOMIC:
            tl.atomic_add(to, out, mask=lanes, sem="relaxed")
        else:
            tl.store(to, out, mask=lanes)


@triton.jit
def backward(x, proj, delta, dy, order, source, A, W, bias, skip, states, ends, sums, history,
             dx, ddelta, rows, dA, dW, dbias, dskip, B, S, X, L, K, D, Y, SEGMENT, CHUNKS, SEGMENTS,
             N: tl.constexpr, R: tl.constexpr, NP: tl.constexpr, RP: tl.constexpr, CB: tl.constexpr,
             CHUNK: tl.constexpr, LOW_RANK: tl.constexpr, SOFTPLUS: tl.constexpr, TERMS: tl.constexpr,
             ATOMIC: tl.constexpr):  # fmt: skip
    """The adjoint of one segment, last step first; each chunk's states are recomputed into `history`.

    dx (B, X, L, D) is added to (ATOMIC, X = S) or stored per direction (X = K). rows (channel blocks, B, L, K, R + 2N)
    and the parameters' gradients (B, segments, K, ...) are written once per program and summed by the caller.
    """
    b, k, segment = tl.program_id(1) // K, tl.program_id(1) % K, tl.program_id(2)
    c, n, r = tl.program_id(0) * CB + tl.arange(0, CB), tl.arange(0, NP), tl.arange(0, RP)
    lanes, ROW = c < D, R + 2 * N
    valid = (n[:, None] < N) & lanes[None, :]
    a, w, offset = _parameters(A, W, bias, k, c, n, r, lanes, D, N, R)
    d = tl.load(skip + k * D + c, mask=lanes, other=0)
    g = _entering(ends, sums, a, SEGMENTS - 1, segment, -1, b, k, c, n, valid, lanes, B, K, D, N)
    grad_a, grad_w = tl.zeros_like(a), tl.zeros_like(w)
    grad_offset, grad_d = tl.zeros_like(offset), tl.zeros_like(d)
    s = tl.load(source + k)
    program = (segment * B * K + tl.program_id(1)) * tl.num_programs(0) + tl.program_id(0)
    scratch = history + program * (CHUNK * NP * CB) + n[:, None] * CB + tl.arange(0, CB)[None, :]
    start = segment * SEGMENT
    chunks = tl.cdiv(tl.minimum(SEGMENT, L - start), CHUNK)
    for back in range(chunks):
        first = start + (chunks - 1 - back) * CHUNK
        steps = tl.minimum(CHUNK, L - first)
        chunk = (b * K + k) * CHUNKS + first // CHUNK
        h = tl.load(states + (chunk * N + n[:, None]) * D + c[None, :], mask=valid, other=0)
        for j in range(steps):
            tl.store(scratch + j * (NP * CB), h)
            i = tl.load(order + k * L + first + j)
            at = ((b * L + i) * K + k) * ROW
            low, v, dt = _step(
                proj, delta, at, w, offset, r, c, lanes, i, L, K, D, ROW, k, b, R, LOW_RANK, SOFTPLUS, TERMS
            )
            u = tl.load(x + ((b * S + s) * L + i) * D + c, mask=lanes, other=0)
            bn = tl.load(proj + at + R + n, mask=n < N, other=0)
            h = tl.exp2(dt[None, :] * a) * h + (dt * u)[None, :] * bn[:, None]
        tl.debug_barrier()  # the states were written by this program; they are read in the same or another layout
        for j in range(steps):
            i = tl.load(order + k * L + first + steps - 1 - j)
            at = ((b * L + i) * K + k) * ROW
            low, v, dt = _step(
                proj, delta, at, w, offset, r, c, lanes, i, L, K, D, ROW, k, b, R, LOW_RANK, SOFTPLUS, TERMS
            )
            u = tl.load(x + ((b * S + s) * L + i) * D + c, mask=lanes, other=0)
            grad_y = tl.load(dy + ((b * Y + k % Y) * L + i) * D + c, mask=lanes, other=0)
            bn = tl.load(proj + at + R + n, mask=n < N, other=0)
            cn = tl.load(proj + at + R + N + n, mask=n < N, other=0)
            before = tl.load(scratch + (steps - 1 - j) * (NP * CB))
            decay, dtx = tl.exp2(dt[None, :] * a), dt * u
            after = decay * before + dtx[None, :] * bn[:, None]
            g += grad_y[None, :] * cn[:, None]
            row = rows + ((tl.program_id(0) * B + b) * L + i) * K * ROW + k * ROW
            tl.store(row + R + N + n, tl.sum(grad_y[None, :] * after, axis=1), mask=n < N)
            tl.store(row + R + n, tl.sum(g * dtx[None, :], axis=1), mask=n < N)
            along_dtx = tl.sum(g * bn[:, None], axis=0)
            g *= decay
            along_a = g * before
            grad_a += along_a * dt[None, :]
            grad_v = tl.sum(along_a * a, axis=0) * LN2 + along_dtx * u
            if SOFTPLUS:
                grad_v *= _slope(v)
            grad_d += u * grad_y
            grad_offset += grad_v
            if LOW_RANK:
                grad_w += grad_v[None, :] * low[:, None]
                tl.store(row + r, tl.sum(grad_v[None, :] * w, axis=1), mask=r < R)
            else:
                tl.store(ddelta + ((b * K + k) * L + i) * D + c, grad_v, mask=lanes)
            grad_u = along_dtx * dt + d * grad_y
            if ATOMIC:
                tl.atomic_add(dx + ((b * X + s) * L + i) * D + c, grad_u, mask=lanes, sem="relaxed")
            else:
                tl.store(dx + ((b * X + k) * L + i) * D + c, grad_u, mask=lanes)
        tl.debug_barrier()
    channel = ((b * SEGMENTS + segment) * K + k) * D + c
    tl.store(dA + channel[None, :] * N + n[:, None], grad_a, mask=valid)
    tl.store(dW + channel[None, :] * R + r[:, None], grad_w, mask=(r[:, None] < R) & lanes[None, :])
    tl.store(dbias + channel, grad_offset, mask=lanes)
    tl.store(dskip + channel, grad_d, mask=lanes)

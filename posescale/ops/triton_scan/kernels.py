"""Triton kernels of the fused multi-direction scan; equations at the head of native/scan.h.

One program, one warp, walks CB channels of one direction of one batch entry through one segment of the sequence. In the
forward passes a thread holds all states of its one or two channels, so that sums over states stay in it: tiles are (CB,
NP), and addresses are told not to be contiguous, for Triton would spread vectors of them over the warp otherwise. The
backward pass sums over channels too, and leaves the layout to Triton. What the next step reads is fetched while this
one computes.

NP and RP are N and R rounded up to powers of two. A is in units of log 2: exp(dt A) = exp2(dt A'). Only offsets
within one batch entry are 32 bits wide.

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
def _dt_inputs(proj, delta, i, r, c, lanes, K, D, N: tl.constexpr, R: tl.constexpr, LOW_RANK: tl.constexpr):
    """Of token i: the low-rank inputs of dt (RP,), and the given delta (CB,) in place of them."""
    low = tl.load(proj + i * (K * (R + 2 * N)) + r, mask=r < R, other=0)
    if LOW_RANK:
        given = tl.zeros_like(lanes.to(low.dtype))
    else:
        given = tl.load(delta + i * D + c, mask=lanes, other=0)
    return low, given


@triton.jit
def _dt(low, given, W, bias, LOW_RANK: tl.constexpr, SOFTPLUS: tl.constexpr, TERMS: tl.constexpr):
    """Input of the softplus and dt (CB,)."""
    if LOW_RANK:
        v = tl.sum(W * low[None, :], axis=1) + bias
    else:
        v = given + bias
    if SOFTPLUS:
        dt = _softplus(v, TERMS)
    else:
        dt = v
    return v, dt


@triton.jit
def _parameters(A, W, bias, k, c, n, r, lanes, D, N: tl.constexpr, R: tl.constexpr):
    """A (CB, NP), W (CB, RP) and bias (CB,) of this program's channels, 0 outside."""
    rows = (k * D + c)[:, None]
    at_a, at_w = rows * N + n[None, :], rows * R + r[None, :]
    a = tl.load(A + tl.max_contiguous(at_a, (1, 1)), mask=(n[None, :] < N) & lanes[:, None], other=0)
    w = tl.load(W + tl.max_contiguous(at_w, (1, 1)), mask=(r[None, :] < R) & lanes[:, None], other=0)
    return a, w, tl.load(bias + k * D + c, mask=lanes, other=0)


@triton.jit
def _entering(ends, sums, a, first, last, step, b, k, c, n, valid, lanes, B, K, D, N: tl.constexpr):
    """The state that enters a segment: carried through the segments before it, each decayed by exp(A sum dt)."""
    h = tl.zeros_like(a)
    for s in range(first, last, step):
        row = (s * B + b) * K + k
        end = tl.load(ends + (row * N + n[None, :]) * D + c[:, None], mask=valid, other=0)
        total = tl.load(sums + row * D + c, mask=lanes, other=0)
        h = tl.exp2(a * total[:, None]) * h + end
    return h


@triton.jit
def _place(K, D, CB: tl.constexpr):
    """Block of channels, batch entry (64 bits wide), direction and segment of this program."""
    blocks = tl.cdiv(D, CB)
    row = tl.program_id(0) // blocks
    return tl.program_id(0) % blocks, (row // K).to(tl.int64), row % K, tl.program_id(1)


@triton.jit
def segment_ends(x, proj, delta, dy, order, source, A, W, bias, ends, sums, B, S, L, K, D, Y, SEGMENT,
                 N: tl.constexpr, R: tl.constexpr, NP: tl.constexpr, RP: tl.constexpr, CB: tl.constexpr,
                 LOW_RANK: tl.constexpr, SOFTPLUS: tl.constexpr, TERMS: tl.constexpr,
                 REVERSE: tl.constexpr):  # fmt: skip
    """The state at each segment's end from zero at its start (REVERSE: the adjoint at its start), and sum dt."""
    block, b, k, segment = _place(K, D, CB)
    c = tl.max_contiguous(block * CB + tl.arange(0, CB), 1)
    n, r = tl.arange(0, NP), tl.arange(0, RP)
    lanes, ROW = c < D, R + 2 * N
    a, w, offset = _parameters(A, W, bias, k, c, n, r, lanes, D, N, R)
    proj += (b * L * K + k) * ROW
    delta += (b * K + k) * L * D
    if REVERSE:
        given_in, factor = dy + (b * Y + k % Y) * L * D, proj + R + N + n
    else:
        given_in, factor = x + (b * S + tl.load(source + k)) * L * D, proj + R + n
    start = segment * SEGMENT
    steps = tl.minimum(SEGMENT, L - start)
    # token number j of this walk is table[j * step]
    table, step = order + k * L + start, 1
    if REVERSE:
        table, step = table + steps - 1, -1
    h, total = tl.zeros_like(a), tl.zeros_like(offset)
    i, ahead = tl.load(table), tl.load(table + tl.minimum(1, steps - 1) * step)
    low, given = _dt_inputs(proj, delta, i, r, c, lanes, K, D, N, R, LOW_RANK)
    u = tl.load(given_in + i * D + c, mask=lanes, other=0)
    row = tl.load(factor + i * (K * ROW), mask=n < N, other=0)
    for j in range(steps):
        next_row = tl.load(factor + ahead * (K * ROW), mask=n < N, other=0)
        next_low, next_given = _dt_inputs(proj, delta, ahead, r, c, lanes, K, D, N, R, LOW_RANK)
        next_u = tl.load(given_in + ahead * D + c, mask=lanes, other=0)
        i, ahead = ahead, tl.load(table + tl.minimum(j + 2, steps - 1) * step)
        v, dt = _dt(low, given, w, offset, LOW_RANK, SOFTPLUS, TERMS)
        total += dt
        decay = tl.exp2(dt[:, None] * a)
        if REVERSE:
            h = (h + u[:, None] * row[None, :]) * decay
        else:
            h = decay * h + (dt * u)[:, None] * row[None, :]
        low, given, u, row = next_low, next_given, next_u, next_row
    at = (segment * B + b) * K + k
    tl.store(ends + (at * N + n[None, :]) * D + c[:, None], h, mask=(n[None, :] < N) & lanes[:, None])
    tl.store(sums + at * D + c, total, mask=lanes)


@triton.jit
def forward(x, proj, delta, y, order, source, A, W, bias, skip, states, ends, sums, B, S, L, K, D, Y, SEGMENT, CHUNKS,
            N: tl.constexpr, R: tl.constexpr, NP: tl.constexpr, RP: tl.constexpr, CB: tl.constexpr,
            CHUNK: tl.constexpr, LOW_RANK: tl.constexpr, SOFTPLUS: tl.constexpr, TERMS: tl.constexpr,
            KEEP: tl.constexpr, ATOMIC: tl.constexpr):  # fmt: skip
    """Outputs of one segment, added (ATOMIC) or stored at the tokens' rows; KEEP: the state before every chunk."""
    block, b, k, segment = _place(K, D, CB)
    c = tl.max_contiguous(block * CB + tl.arange(0, CB), 1)
    n, r = tl.arange(0, NP), tl.arange(0, RP)
    lanes, ROW = c < D, R + 2 * N
    valid = (n[None, :] < N) & lanes[:, None]
    a, w, offset = _parameters(A, W, bias, k, c, n, r, lanes, D, N, R)
    d = tl.load(skip + k * D + c, mask=lanes, other=0)
    h = _entering(ends, sums, a, 0, segment, 1, b, k, c, n, valid, lanes, B, K, D, N)
    x += (b * S + tl.load(source + k)) * L * D
    y += (b * Y + k % Y) * L * D
    proj += (b * L * K + k) * ROW
    delta += (b * K + k) * L * D
    states += (b * K + k) * CHUNKS * N * D
    table, start = order + k * L, segment * SEGMENT
    end = tl.minimum(start + SEGMENT, L)
    i, ahead = tl.load(table + start), tl.load(table + tl.minimum(start + 1, end - 1))
    low, given = _dt_inputs(proj, delta, i, r, c, lanes, K, D, N, R, LOW_RANK)
    u = tl.load(x + i * D + c, mask=lanes, other=0)
    bn = tl.load(proj + i * (K * ROW) + R + n, mask=n < N, other=0)
    cn = tl.load(proj + i * (K * ROW) + R + N + n, mask=n < N, other=0)
    for p in range(start, end):
        if KEEP:
            if p % CHUNK == 0:
                tl.store(states + (p // CHUNK * N + n[None, :]) * D + c[:, None], h, mask=valid)
        next_b = tl.load(proj + ahead * (K * ROW) + R + n, mask=n < N, other=0)
        next_c = tl.load(proj + ahead * (K * ROW) + R + N + n, mask=n < N, other=0)
        next_low, next_given = _dt_inputs(proj, delta, ahead, r, c, lanes, K, D, N, R, LOW_RANK)
        next_u = tl.load(x + ahead * D + c, mask=lanes, other=0)
        beyond = tl.load(table + tl.minimum(p + 2, end - 1))
        v, dt = _dt(low, given, w, offset, LOW_RANK, SOFTPLUS, TERMS)
        h = tl.exp2(dt[:, None] * a) * h + (dt * u)[:, None] * bn[None, :]
        out = tl.sum(h * cn[None, :], axis=1) + d * u
        if ATOMIC:
            tl.atomic_add(y + i * D + c, out, mask=lanes, sem="relaxed")
        else:
            tl.store(y + i * D + c, out, mask=lanes)
        i, ahead, low, given, u, bn, cn = ahead, beyond, next_low, next_given, next_u, next_b, next_c


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
    block, b, k, segment = _place(K, D, CB)
    c, n, r = block * CB + tl.arange(0, CB), tl.arange(0, NP), tl.arange(0, RP)
    lanes, ROW = c < D, R + 2 * N
    valid = (n[None, :] < N) & lanes[:, None]
    a, w, offset = _parameters(A, W, bias, k, c, n, r, lanes, D, N, R)
    d = tl.load(skip + k * D + c, mask=lanes, other=0)
    g = _entering(ends, sums, a, SEGMENTS - 1, segment, -1, b, k, c, n, valid, lanes, B, K, D, N)
    grad_a, grad_w = tl.zeros_like(a), tl.zeros_like(w)
    grad_offset, grad_d = tl.zeros_like(offset), tl.zeros_like(d)
    s = tl.load(source + k)
    x += (b * S + s) * L * D
    dx += (b * X + (s if ATOMIC else k)) * L * D
    dy += (b * Y + k % Y) * L * D
    proj += (b * L * K + k) * ROW
    rows += ((block * B + b) * L * K + k) * ROW
    delta += (b * K + k) * L * D
    ddelta += (b * K + k) * L * D
    states += (b * K + k) * CHUNKS * N * D
    program = segment.to(tl.int64) * tl.num_programs(0) + tl.program_id(0)
    scratch = history + program * (CHUNK * NP * CB) + n[None, :] * CB + tl.arange(0, CB)[:, None]
    start = segment * SEGMENT
    chunks = tl.cdiv(tl.minimum(SEGMENT, L - start), CHUNK)
    for back in range(chunks):
        first = start + (chunks - 1 - back) * CHUNK
        steps = tl.minimum(CHUNK, L - first)
        table = order + k * L + first
        h = tl.load(states + (first // CHUNK * N + n[None, :]) * D + c[:, None], mask=valid, other=0)
        i, ahead = tl.load(table), tl.load(table + tl.minimum(1, steps - 1))
        low, given = _dt_inputs(proj, delta, i, r, c, lanes, K, D, N, R, LOW_RANK)
        u = tl.load(x + i * D + c, mask=lanes, other=0)
        for j in range(steps):
            bn = tl.load(proj + i * (K * ROW) + R + n, mask=n < N, other=0)
            next_low, next_given = _dt_inputs(proj, delta, ahead, r, c, lanes, K, D, N, R, LOW_RANK)
            next_u = tl.load(x + ahead * D + c, mask=lanes, other=0)
            tl.store(scratch + j * (NP * CB), h)
            v, dt = _dt(low, given, w, offset, LOW_RANK, SOFTPLUS, TERMS)
            h = tl.exp2(dt[:, None] * a) * h + (dt * u)[:, None] * bn[None, :]
            i, ahead, low, given, u = ahead, tl.load(table + tl.minimum(j + 2, steps - 1)), next_low, next_given, next_u
        i = tl.load(table + steps - 1)
        tl.debug_barrier()  # the states were written by this program; they are read in the same or another layout
        low, given = _dt_inputs(proj, delta, i, r, c, lanes, K, D, N, R, LOW_RANK)
        u = tl.load(x + i * D + c, mask=lanes, other=0)
        grad_y = tl.load(dy + i * D + c, mask=lanes, other=0)
        ahead = tl.load(table + tl.maximum(steps - 2, 0))
        for j in range(steps):
            next_low, next_given = _dt_inputs(proj, delta, ahead, r, c, lanes, K, D, N, R, LOW_RANK)
            next_u = tl.load(x + ahead * D + c, mask=lanes, other=0)
            next_grad_y = tl.load(dy + ahead * D + c, mask=lanes, other=0)
            bn = tl.load(proj + i * (K * ROW) + R + n, mask=n < N, other=0)
            cn = tl.load(proj + i * (K * ROW) + R + N + n, mask=n < N, other=0)
            before = tl.load(scratch + (steps - 1 - j) * (NP * CB))
            beyond = tl.load(table + tl.maximum(steps - 3 - j, 0))
            v, dt = _dt(low, given, w, offset, LOW_RANK, SOFTPLUS, TERMS)
            decay, dtx = tl.exp2(dt[:, None] * a), dt * u
            after = decay * before + dtx[:, None] * bn[None, :]
            g += grad_y[:, None] * cn[None, :]
            row = rows + i * (K * ROW)
            tl.store(row + R + N + n, tl.sum(grad_y[:, None] * after, axis=0), mask=n < N)
            tl.store(row + R + n, tl.sum(g * dtx[:, None], axis=0), mask=n < N)
            along_dtx = tl.sum(g * bn[None, :], axis=1)
            g *= decay
            along_a = g * before
            grad_a += along_a * dt[:, None]
            grad_v = tl.sum(along_a * a, axis=1) * LN2 + along_dtx * u
            if SOFTPLUS:
                grad_v *= _slope(v)
            grad_d += u * grad_y
            grad_offset += grad_v
            if LOW_RANK:
                grad_w += grad_v[:, None] * low[None, :]
                tl.store(row + r, tl.sum(grad_v[:, None] * w, axis=0), mask=r < R)
            else:
                tl.store(ddelta + i * D + c, grad_v, mask=lanes)
            grad_u = along_dtx * dt + d * grad_y
            if ATOMIC:
                tl.atomic_add(dx + i * D + c, grad_u, mask=lanes, sem="relaxed")
            else:
                tl.store(dx + i * D + c, grad_u, mask=lanes)
            i, ahead, low, given, u, grad_y = ahead, beyond, next_low, next_given, next_u, next_grad_y
        tl.debug_barrier()
    channel = ((b * SEGMENTS + segment) * K + k) * D + c
    tl.store(dA + channel[:, None] * N + n[None, :], grad_a, mask=valid)
    tl.store(dW + channel[:, None] * R + r[None, :], grad_w, mask=(r[None, :] < R) & lanes[:, None])
    tl.store(dbias + channel, grad_offset, mask=lanes)
    tl.store(dskip + channel, grad_d, mask=lanes)

# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The way back of kernels/lstm_relevance.py and kernels/steps.py once more, loop for loop, in Cython.

Arguments as those of relevance_all. Sums of a product are vectors of the C compiler, which makes none of a loop here.
"""

from libc.stdint cimport int64_t as Int
from libc.stdlib cimport free, malloc

cdef extern from *:
    """
    typedef float sixteen __attribute__((vector_size(64), aligned(4), may_alias));
    #define AT(p) ((sixteen*)(p))
    #define RESTRICT __restrict
    """
    ctypedef float sixteen  # floats, added and multiplied at once
    ctypedef float* Out "float *RESTRICT"
    ctypedef const float* In "const float *RESTRICT"
    sixteen* at "AT"(const float*) nogil

cdef enum:
    WIDTH = 16
    GROUP = 4
    AT_ONCE = 16384


cdef inline void one(In v, In packed, Out out, Int K, Int line) noexcept nogil:
    """out [WIDTH] = v [K] @ packed, whose rows are `line` apart."""
    cdef sixteen sums = at(packed)[0] * 0
    cdef Int k
    for k in range(K):
        sums = sums + v[k] * at(packed + k * line)[0]
    at(out)[0] = sums


cdef inline void one_by_four(In v, In packed, Out out, Int K) noexcept nogil:
    """out [4 * WIDTH] = v [K] @ packed. Sums have names: those of an array would go through memory."""
    cdef sixteen a = at(packed)[0] * 0, b = a, c = a, d = a
    cdef const sixteen* w
    cdef Int k
    for k in range(K):
        w = at(packed + k * 4 * WIDTH)
        a = a + v[k] * w[0]
        b = b + v[k] * w[1]
        c = c + v[k] * w[2]
        d = d + v[k] * w[3]
    at(out)[0], at(out)[1], at(out)[2], at(out)[3] = a, b, c, d


cdef inline void eight(In v, In packed, Out out, Int K, Int line, Int stride) noexcept nogil:
    """out [8, WIDTH] = v [8, K] @ packed."""
    cdef sixteen a = at(packed)[0] * 0, b = a, c = a, d = a, e = a, f = a, g = a, h = a, w
    cdef Int k
    for k in range(K):
        w = at(packed + k * line)[0]
        a = a + v[k] * w
        b = b + v[K + k] * w
        c = c + v[2 * K + k] * w
        d = d + v[3 * K + k] * w
        e = e + v[4 * K + k] * w
        f = f + v[5 * K + k] * w
        g = g + v[6 * K + k] * w
        h = h + v[7 * K + k] * w
    at(out)[0], at(out + stride)[0], at(out + 2 * stride)[0], at(out + 3 * stride)[0] = a, b, c, d
    out += 4 * stride
    at(out)[0], at(out + stride)[0], at(out + 2 * stride)[0], at(out + 3 * stride)[0] = e, f, g, h


cdef void multiply(const float* vectors, const float* matrix, Int tiles, Int K, float* out, Int count) noexcept nogil:
    """out [count, tiles * WIDTH] = vectors [count, K] @ matrix, packed as by kernels/product.py."""
    cdef Int group = 0, size, line, b, t, stride = tiles * WIDTH
    cdef const float* packed
    cdef float* to
    while group < tiles:
        size = min(GROUP, tiles - group)
        line, packed, to, b = size * WIDTH, matrix + group * K * WIDTH, out + group * WIDTH, 0
        while b + 8 <= count:
            for t in range(size):
                eight(vectors + b * K, packed + t * WIDTH, to + b * stride + t * WIDTH, K, line, stride)
            b += 8
        while b < count:
            if size == 4:
                one_by_four(vectors + b * K, packed, to + b * stride, K)
            else:
                for t in range(size):
                    one(vectors + b * K, packed + t * WIDTH, to + b * stride + t * WIDTH, K, line)
            b += 1
        group += GROUP


cdef inline void scaled(Out r, In values, In product, float more, Int size) noexcept nogil:
    cdef Int j
    for j in range(size):
        r[j] = values[j] * product[j] + more


cdef inline float step(
    Int H, In pre, In old, In new, In bias, float eps, float delta, float unit, In r_h, Out r_c, Out m, double* lost
) noexcept nogil:
    """One step of one sample; what each incoming unit gets."""
    cdef float of_sum = 0, of_input = 0, z, safe, signed, density, kept, part, r
    cdef Int j
    for j in range(H):
        r = r_c[j] + r_h[j]
        z = old[j] + new[j]
        signed = eps if z >= 0 else -eps
        safe = z + signed
        density = r / safe if safe != 0 else 0
        kept = signed * density if safe != 0 else r
        of_sum += kept
        part = delta * <float>0.5 * kept
        r_c[j] = old[j] * density + part
        r = new[j] * density + part
        z = pre[j]
        signed = eps if z >= 0 else -eps
        safe = z + signed
        density = r / safe if safe != 0 else 0
        of_input += (bias[j] + signed) * density if safe != 0 else r
        m[j] = density
    lost[0] += (1 - delta) * (of_sum + of_input)
    return delta * of_input * unit


def relevance_all(
    const float[:, :, ::1] x, const float[:, :, ::1] pre, const float[:, :, ::1] old, const float[:, :, ::1] new,
    const float[:, :, ::1] hidden, const float[:, ::1] h0, const Int[::1] lens, const Int[::1] order, bint reverse,
    const float[::1] bias, const float[:, :, ::1] R, const float[:, :, ::1] W, float eps, float delta, float unit,
    const float[:, :, ::1] r_y, float[:, ::1] r_h, float[:, ::1] r_c, float[:, :, ::1] r_x, double[::1] lost,
):
    cdef Int B = x.shape[1], count = order.shape[0], D = x.shape[2], H = hidden.shape[2], total = lens[order[0]]
    cdef Int at_once = max(<Int>1, min(max(<Int>8, AT_ONCE // H) // count, total)), most = at_once * count
    cdef Int R_width = R.shape[0] * WIDTH, W_width = W.shape[0] * WIDTH
    cdef Int s, i, b, t, j, first, row = 0, before = 0, running = 0
    cdef bint along = r_y.shape[0] > 0, at_rest = True
    cdef float* room = <float*>malloc((most * (H + 1 + W_width) + count * R_width) * sizeof(float) + 2 * most * sizeof(Int))
    if room == NULL:
        raise MemoryError
    cdef Int* where = <Int*>room
    cdef float* m = <float*>(where + 2 * most)
    cdef float* given = m + most * H
    cdef float* of_rows = given + most
    cdef float* back = of_rows + most * W_width
    with nogil:
        for b in range(B):
            for j in range(H):
                at_rest = at_rest and h0[b, j] == 0
        for s in range(total - 1, -2, -1):
            if running and (s >= 0 or not at_rest):
                multiply(m + before * H, &R[0, 0, 0], R.shape[0], H, back, running)
            elif s < 0:
                for i in range(count * R_width):
                    back[i] = 0
            for i in range(running):
                b = order[i]
                t = lens[b] - 1 - s if reverse else s
                scaled(&r_h[b, 0], &h0[b, 0] if s < 0 else &hidden[t, b, 0], back + i * R_width, given[before + i], H)
            while s >= 0 and running < count and lens[order[running]] > s:
                running += 1
            if s < 0 or row + running > most:
                multiply(m, &W[0, 0, 0], W.shape[0], H, of_rows, row)
                for i in range(row):
                    t, b = where[2 * i], where[2 * i + 1]
                    scaled(&r_x[t, b, 0], &x[t, b, 0], of_rows + i * W_width, given[i], D)
                row = 0
            if s < 0:
                break
            before = row
            for i in range(running):
                b = order[i]
                t = lens[b] - 1 - s if reverse else s
                if along:
                    for j in range(H):
                        r_c[b, j] += r_y[t, b, j]
                given[row] = step(
                    H, &pre[t, b, 0], &old[t, b, 0], &new[t, b, 0], &bias[0], eps, delta, unit, &r_h[b, 0],
                    &r_c[b, 0], m + row * H, &lost[b],
                )
                where[2 * row], where[2 * row + 1] = t, b
                row += 1
    free(room)

// The way back through an LSTM of kernels/lstm_relevance.py and kernels/steps.py once more, loop for loop, over plain
// pointers, but with the weights always from their first group on; what the arrays are, is told there. Number: of the
// arithmetic.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace way_back {

using Int = std::int64_t;
constexpr Int WIDTH = 16, GROUP = 4, AT_ONCE = 1 << 14;

// Bytes of a register.
#if defined(__AVX512F__)
constexpr int REGISTER = 64;
#elif defined(__AVX__)
constexpr int REGISTER = 32;
#else
constexpr int REGISTER = 16;
#endif
template <typename Number>
struct Lanes {
    static constexpr int SIZE = REGISTER / sizeof(Number);
    typedef Number Vector __attribute__((vector_size(REGISTER)));
    static Vector read(const float* from) {
        Vector numbers;
        for (int i = 0; i < SIZE; i++) numbers[i] = from[i];
        return numbers;
    }
};

// As kernels/product.py packs it.
struct Packed {
    const float* data;
    Int tiles, rows;
    Int width() const { return tiles * WIDTH; }
};

// out [ROWS, TILES * WIDTH] = vectors [ROWS, K] @ packed, whose rows are `line` apart.
template <int ROWS, int TILES, typename Number>
inline void tile(const Number* __restrict vectors, const float* __restrict packed, Number* __restrict out, Int K,
                 Int line, Int stride) {
    using Of = Lanes<Number>;
    constexpr int PARTS = TILES * WIDTH / Of::SIZE;
    typename Of::Vector sums[ROWS][PARTS] = {};
    for (Int k = 0; k < K; k++)
#pragma GCC unroll 16
        for (int p = 0; p < PARTS; p++) {
            const auto weights = Of::read(packed + k * line + p * Of::SIZE);
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; r++) sums[r][p] += vectors[r * K + k] * weights;
        }
    for (int r = 0; r < ROWS; r++) std::memcpy(out + r * stride, sums[r], sizeof sums[r]);
}

template <int ROWS, typename Number>
inline void rows_of(Int tiles, const Number* vectors, const float* packed, Number* out, Int K, Int line, Int stride) {
    switch (tiles) {
        case 1: return tile<ROWS, 1>(vectors, packed, out, K, line, stride);
        case 2: return tile<ROWS, 2>(vectors, packed, out, K, line, stride);
        case 3: return tile<ROWS, 3>(vectors, packed, out, K, line, stride);
        default: return tile<ROWS, 4>(vectors, packed, out, K, line, stride);
    }
}

// out [count, width] = vectors [count, K] @ matrix, with eight sums at work wherever there are as many.
template <typename Number>
void multiply(const Number* vectors, Packed matrix, Number* out, Int count) {
    const Int K = matrix.rows, stride = matrix.width();
    for (Int group = 0; group < matrix.tiles; group += GROUP) {
        const Int size = std::min(GROUP, matrix.tiles - group), line = size * WIDTH;
        const float* packed = matrix.data + group * K * WIDTH;
        Number* to = out + group * WIDTH;
        Int b = 0;
        auto at_once = [&]<int ROWS, int TILES>() {
            for (; b + ROWS <= count; b += ROWS)
                for (Int t = 0; t < size; t += TILES)
                    rows_of<ROWS>(std::min<Int>(TILES, size - t), vectors + b * K, packed + t * WIDTH,
                                  to + b * stride + t * WIDTH, K, line, stride);
        };
        if (REGISTER == 64) at_once.template operator()<8, 1>();
        at_once.template operator()<4, 2>();
        at_once.template operator()<2, 4>();
        at_once.template operator()<1, 4>();
    }
}

template <typename Number>
struct Way {
    Int B, count, T, D, H;  // samples that the arrays hold, and that run
    const float *x, *hidden, *h0;
    const Int *lens, *order;
    bool reverse;
    const float* bias;
    Packed R, W;
    Number eps, delta, unit;
    const Number* r_y;  // or null
    Number *r_h, *r_c, *r_x;
    double* lost;

    Int place(Int s, Int b) const { return reverse ? lens[b] - 1 - s : s; }
};

// The epsilon rule at one sum z of relevance r.
template <typename Number>
struct Settled {
    Number density, kept;
    [[gnu::always_inline]] Settled(Number r, Number z, Number bias, Number eps) {
        const Number sign = z >= 0 ? eps : -eps, safe = z + sign;
        density = safe != 0 ? r / safe : 0;
        kept = safe != 0 ? (bias + sign) * density : r;
    }
};

// step(t, b, s, row of m, lost) does one step of one sample and returns what each incoming unit gets; width: of m.
template <typename Number, typename Step>
void walk(const Way<Number>& w, Int width, Step step) {
    const Int total = w.lens[w.order[0]], D = w.D, H = w.H;
    const Int at_once = std::max<Int>(1, std::min(std::max<Int>(8, AT_ONCE / width) / w.count, total));
    thread_local std::vector<Number> m, given, of_rows, back;
    thread_local std::vector<Int> where;
    const Int most = at_once * w.count;
    m.resize(most * width), given.resize(most), where.resize(most * 2);
    of_rows.resize(most * w.W.width()), back.resize(w.count * w.R.width());
    Int row = 0, before = 0, running = 0;

    auto to_inputs = [&] {
        multiply(m.data(), w.W, of_rows.data(), row);
        for (Int i = 0; i < row; i++) {
            const Int at = (where[2 * i] * w.B + where[2 * i + 1]) * D;
            const Number* __restrict product = of_rows.data() + i * w.W.width();
            const float* __restrict x = w.x + at;
            Number* __restrict r_x = w.r_x + at;
            const Number more = given[i];
            for (Int d = 0; d < D; d++) r_x[d] = x[d] * product[d] + more;
        }
    };
    auto through_hidden = [&](Int s) {
        for (Int i = 0; i < running; i++) {
            const Int b = w.order[i];
            const float* __restrict h = s < 0 ? w.h0 + b * H : w.hidden + (w.place(s, b) * w.B + b) * H;
            const Number* __restrict product = back.data() + i * w.R.width();
            Number* __restrict r_h = w.r_h + b * H;
            const Number more = given[before + i];
            for (Int j = 0; j < H; j++) r_h[j] = h[j] * product[j] + more;
        }
    };
    for (Int s = total - 1; s >= 0; s--) {
        if (running) {
            multiply(m.data() + before * width, w.R, back.data(), running);
            through_hidden(s);
        }
        while (running < w.count && w.lens[w.order[running]] > s) running++;
        if (row + running > most) to_inputs(), row = 0;
        before = row;
        for (Int i = 0; i < running; i++, row++) {
            const Int b = w.order[i], t = w.place(s, b);
            given[row] = step(t, b, s, m.data() + row * width, w.lost[b]);
            where[2 * row] = t, where[2 * row + 1] = b;
        }
    }
    if (!running) return;
    if (std::any_of(w.h0, w.h0 + w.B * H, [](float h) { return h != 0; }))
        multiply(m.data() + before * width, w.R, back.data(), running);
    else
        std::fill(back.begin(), back.end(), Number(0));
    through_hidden(-1);
    to_inputs();
}

// "Signal takes all". before_tanh, old, fresh [T, B, H]: what the cell input adds up to, and both parts of the cell.
inline void relevance_all(const Way<float>& w, const float* before_tanh, const float* old, const float* fresh) {
    walk(w, w.H, [&](Int t, Int b, Int, float* __restrict m, double& lost) {
        const Int at = (t * w.B + b) * w.H, H = w.H;
        const float *__restrict pre = before_tanh + at, *__restrict was = old + at, *__restrict comes = fresh + at;
        const float *__restrict r_h = w.r_h + b * H, *__restrict bias = w.bias;
        float* __restrict r_c = w.r_c + b * H;
        const float eps = w.eps, delta = w.delta;
        float of_sum = 0, of_input = 0;
        if (w.r_y)
            for (Int j = 0; j < H; j++) r_c[j] += w.r_y[at + j];
#pragma GCC ivdep
        for (Int j = 0; j < H; j++) {
            const Settled cell(r_c[j] + r_h[j], was[j] + comes[j], 0.0f, eps);
            const float part = delta * 0.5f * cell.kept;
            of_sum += cell.kept;
            r_c[j] = was[j] * cell.density + part;
            const Settled input(comes[j] * cell.density + part, pre[j], bias[j], eps);
            of_input += input.kept;
            m[j] = input.density;
        }
        lost += (1 - delta) * (of_sum + of_input);
        return delta * of_input * w.unit;
    });
}

// "Half": gates and signals take half each. sums, gates [T, B, 4H]; cells [T, B, H]; c0 [B, H].
inline void relevance_half(const Way<double>& w, const double* sums, const float* gates, const double* cells,
                           const double* c0) {
    walk(w, 4 * w.H, [&](Int t, Int b, Int s, double* __restrict m, double& lost) {
        const Int at = t * w.B + b, H = w.H;
        const double *__restrict z = sums + at * 4 * H;
        const double *__restrict before = s ? cells + (w.place(s - 1, b) * w.B + b) * H : c0 + b * H;
        const float *__restrict gate = gates + at * 4 * H, *__restrict bias = w.bias;
        double *__restrict r_h = w.r_h + b * H, *__restrict r_c = w.r_c + b * H;
        const double eps = w.eps, delta = w.delta;
        double absorbed = 0, of_gates = 0;
        if (w.r_y)
            for (Int j = 0; j < H; j++) r_h[j] += w.r_y[at * H + j];
#pragma GCC ivdep
        for (Int j = 0; j < H; j++) {
            const double out = r_h[j] / 2, old = gate[2 * H + j] * before[j];
            const double fresh = double(gate[j]) * gate[3 * H + j];
            const Settled o(out, z[H + j], double(bias[H + j]), eps), cell(r_c[j] + out, old + fresh, 0.0, eps);
            const double part = delta / 2 * cell.kept;
            const double r_old = (old * cell.density + part) / 2, r_fresh = (fresh * cell.density + part) / 2;
            const Settled i(r_fresh, z[j], double(bias[j]), eps), f(r_old, z[2 * H + j], double(bias[2 * H + j]), eps);
            const Settled g(r_fresh, z[3 * H + j], double(bias[3 * H + j]), eps);
            m[j] = i.density, m[H + j] = o.density, m[2 * H + j] = f.density, m[3 * H + j] = g.density;
            const double kept = i.kept + o.kept + f.kept + g.kept;
            of_gates += kept, absorbed += kept + cell.kept;
            r_c[j] = r_old;
        }
        lost += (1 - delta) * absorbed;
        return delta * of_gates * w.unit;
    });
}

}  // namespace way_back

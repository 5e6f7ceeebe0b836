// way_back.hpp as a Python module, by nanobind. Arguments as in kernels/lstm_relevance.py.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "way_back.hpp"

namespace nb = nanobind;
using namespace way_back;

template <typename T, int N> using Array = nb::ndarray<T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;

static Packed packed(const Array<const float, 3>& weights) {
    return {weights.data(), Int(weights.shape(0)), Int(weights.shape(1))};
}

template <typename Number>
static Way<Number> way_of(const Array<const float, 3>& x, const Array<const float, 3>& hidden, const Array<const float, 2>& h0,
                          const Array<const Int, 1>& lens, const Array<const Int, 1>& order, bool reverse,
                          const Array<const float, 1>& bias, const Array<const float, 3>& R,
                          const Array<const float, 3>& W, Number eps, Number delta, Number unit,
                          const Array<const Number, 3>& r_y, const Array<Number, 2>& r_h, const Array<Number, 2>& r_c,
                          const Array<Number, 3>& r_x, const Array<double, 1>& lost) {
    return {Int(x.shape(1)), Int(order.shape(0)), Int(x.shape(0)), Int(x.shape(2)), Int(hidden.shape(2)),
            x.data(), hidden.data(), h0.data(), lens.data(), order.data(), reverse, bias.data(), packed(R), packed(W),
            eps, delta, unit, r_y.shape(0) ? r_y.data() : nullptr, r_h.data(), r_c.data(), r_x.data(), lost.data()};
}

static void all(Array<const float, 3> x, Array<const float, 3> pre, Array<const float, 3> old,
                Array<const float, 3> fresh, Array<const float, 3> hidden, Array<const float, 2> h0,
                Array<const Int, 1> lens, Array<const Int, 1> order, bool reverse, Array<const float, 1> bias,
                Array<const float, 3> R, Array<const float, 3> W, float eps, float delta, float unit,
                Array<const float, 3> r_y, Array<float, 2> r_h, Array<float, 2> r_c, Array<float, 3> r_x,
                Array<double, 1> lost) {
    nb::gil_scoped_release others_may_run;
    const auto way = way_of<float>(x, hidden, h0, lens, order, reverse, bias, R, W, eps, delta, unit, r_y, r_h, r_c,
                                   r_x, lost);
    relevance_all(way, pre.data(), old.data(), fresh.data());
}

static void half(int, Array<const float, 3> x, Array<const double, 3> z, Array<const float, 3> gates,
                 Array<const double, 3> cells, Array<const float, 3>, Array<const float, 3> hidden,
                 Array<const float, 2> h0, Array<const double, 2> c0, Array<const Int, 1> lens,
                 Array<const Int, 1> order, bool reverse, bool, Array<const float, 1> bias, Array<const float, 3> R,
                 Array<const float, 3> W, Array<const float, 2>, double eps, double delta, double unit,
                 Array<const double, 3> r_y, Array<double, 2> r_h, Array<double, 2> r_c, Array<double, 3> r_x,
                 Array<double, 1> lost) {
    nb::gil_scoped_release others_may_run;
    const auto way = way_of<double>(x, hidden, h0, lens, order, reverse, bias, R, W, eps, delta, unit, r_y, r_h, r_c,
                                    r_x, lost);
    relevance_half(way, z.data(), gates.data(), cells.data(), c0.data());
}

NB_MODULE(with_nanobind, module) {
    module.def("relevance_all", &all);
    module.def("relevance_shared", &half);  // of the plain cell, rule 1
}

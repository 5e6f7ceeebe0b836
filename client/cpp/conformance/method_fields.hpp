// Generated from proto/lstm_explain/v1/method.proto and the server's registry by `make proto`; do not edit.
/// The names of methods, parameters and choices in the cases. No case has a parameter that has parameters.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "lstm_explain/method.hpp"

namespace conformance {

template <class F>
void fields(lstm_explain::Lrp& m, F f) {
  f("product_rule", m.product_rule);
  f("epsilon", m.epsilon);
  f("bias_factor", m.bias_factor);
  f("stabiliser", m.stabiliser);
  f("cell_stabiliser", m.cell_stabiliser);
  f("layer_stabiliser", m.layer_stabiliser);
  f("ceiling", m.ceiling);
}

template <class F>
void fields(lstm_explain::Gradient&, F) {}

template <class F>
void fields(lstm_explain::GradientTimesInput&, F) {}

template <class F>
void fields(lstm_explain::IntegratedGradients& m, F f) {
  f("steps", m.steps);
  f("baseline", m.baseline);
  f("max_steps", m.max_steps);
}

template <class F>
void fields(lstm_explain::SmoothGrad& m, F f) {
  f("samples", m.samples);
  f("noise", m.noise);
  f("seed", m.seed);
}

template <class F>
void fields(lstm_explain::Occlusion& m, F f) {
  f("window", m.window);
  f("baseline", m.baseline);
  f("of", m.of);
  f("over", m.over);
}

template <class F>
void fields(lstm_explain::ShapleySampling& m, F f) {
  f("permutations", m.permutations);
  f("seed", m.seed);
  f("baseline", m.baseline);
  f("over", m.over);
  f("standard_error", m.standard_error);
  f("max_permutations", m.max_permutations);
  f("exact_players", m.exact_players);
}

template <class F>
void fields(lstm_explain::ContextualDecomposition&, F) {}

template <class F>
void fields(lstm_explain::GradientShap& m, F f) {
  f("samples", m.samples);
  f("seed", m.seed);
  f("baseline", m.baseline);
}

template <class F>
void fields(lstm_explain::Counterfactual& m, F f) {
  f("most", m.most);
  f("max_runs", m.max_runs);
  f("threshold", m.threshold);
  f("baseline", m.baseline);
  f("over", m.over);
}

inline const std::vector<std::pair<std::string, lstm_explain::Method>> METHODS = {
    {"lrp", lstm_explain::Lrp{}},
    {"gradient", lstm_explain::Gradient{}},
    {"gradient_times_input", lstm_explain::GradientTimesInput{}},
    {"integrated_gradients", lstm_explain::IntegratedGradients{}},
    {"smooth_grad", lstm_explain::SmoothGrad{}},
    {"occlusion", lstm_explain::Occlusion{}},
    {"shapley_sampling", lstm_explain::ShapleySampling{}},
    {"contextual_decomposition", lstm_explain::ContextualDecomposition{}},
    {"gradient_shap", lstm_explain::GradientShap{}},
    {"counterfactual", lstm_explain::Counterfactual{}},
};

/// The names of the choices by number; the first is the server's default.
template <class Choice>
inline const std::vector<std::string> WORDS;
template <>
inline const std::vector<std::string> WORDS<lstm_explain::ProductRule> = {"", "all", "half", "prop", "abs", "attn"};
template <>
inline const std::vector<std::string> WORDS<lstm_explain::Quantity> = {"", "score", "probability"};
template <>
inline const std::vector<std::string> WORDS<lstm_explain::Players> = {"", "steps", "features", "cells", "groups"};

}  // namespace conformance

/// @file
/// How relevance is computed. A parameter that is not set takes the server's default.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>

#include "lstm_explain/tensor.hpp"

namespace lstm_explain {

/// What a gate and its signal receive of the relevance of their product (Arras et al. 2019, arXiv 1909.12114).
enum class ProductRule {
  all = 1,   ///< "Signal takes all" (the default): the gate receives nothing.
  half = 2,  ///< One half each.
  prop = 3,  ///< In proportion to the two values.
  abs = 4,   ///< In proportion to the two absolute values.
};

/// What an occlusion lowers.
enum class Quantity {
  score = 1,        ///< The explained value (the default).
  probability = 2,  ///< The output after Softmax or Sigmoid.
};

/// Between whom a Shapley value is shared.
enum class Players {
  steps = 1,     ///< Time steps (the default).
  features = 2,  ///< Features, each for all of time.
  cells = 3,     ///< Every feature of every time step.
};

/// What an input of a layer gets of the relevance of the layer's output.
namespace rule {
/// The rule of LRP with a stabiliser of its own (default 1e-6).
struct Epsilon {
  std::optional<double> epsilon{};
};
/// Raises contributions of the output's sign by gamma (default 0.25).
struct Gamma {
  std::optional<double> gamma{};
};
/// Positive contributions only.
struct ZPlus {};
/// alpha (2) times the positive share less beta (1) times the negative one; alpha - beta is 1.
struct AlphaBeta {
  std::optional<double> alpha{}, beta{};
};
/// Equal shares.
struct Flat {};
/// For layers whose inputs lie between two bounds.
struct ZBox {
  double low = 0.0, high = 1.0;
};
}  // namespace rule
using Rule = std::variant<rule::Epsilon, rule::Gamma, rule::ZPlus, rule::AlphaBeta, rule::Flat, rule::ZBox>;

/// Rules of LRP by layer.
struct Composite {
  /// By a node's name, an operator ("Gemm"), or a kind of layer ("dense", "convolution").
  std::map<std::string, Rule> rules{};
  /// For the layers that see the input before any other layer does.
  std::optional<Rule> first{};
};

/// Layer-wise relevance propagation with the epsilon rule (Arras et al. 2017, arXiv 1706.07206).
struct Lrp {
  std::optional<ProductRule> product_rule{};
  /// The stabiliser, not negative; default 0.001.
  std::optional<double> epsilon{};
  /// Share of bias and stabiliser given to a sum's inputs, in [0, 1]; default 0.
  std::optional<double> bias_factor{};
  /// Other rules for some dense and convolutional layers.
  std::optional<Composite> composite{};
};

/// Partial derivatives of the explained value.
struct Gradient {};

/// Partial derivatives times the input.
struct GradientTimesInput {};

/// Gradients averaged along the line from a baseline to the input (Sundararajan et al. 2017).
struct IntegratedGradients {
  /// Points on the line; default 50.
  std::optional<std::int32_t> steps{};
  /// By input; zero where there is none.
  Tensors baseline{};
};

/// Gradients averaged over noisy copies of the input (Smilkov et al. 2017).
struct SmoothGrad {
  /// Noisy copies; default 25.
  std::optional<std::int32_t> samples{};
  /// Standard deviation as a share of the input's range; default 0.1.
  std::optional<double> noise{};
  /// Default 0.
  std::optional<std::int64_t> seed{};
};

/// Fall of the explained value when time steps are replaced by a baseline.
struct Occlusion {
  /// Time steps replaced together; default 1.
  std::optional<std::int32_t> window{};
  /// By input; zero where there is none.
  Tensors baseline{};
  /// The value whose fall is taken.
  std::optional<Quantity> of{};
};

/// Shapley values, estimated over random orders.
struct ShapleySampling {
  /// Orders drawn; default 25.
  std::optional<std::int32_t> permutations{};
  /// Default 0.
  std::optional<std::int64_t> seed{};
  /// What stands for an absent player, by input; zero where there is none.
  Tensors baseline{};
  /// Who plays.
  std::optional<Players> over{};
};

/// Contextual decomposition of LSTMs (Murdoch et al. 2018, arXiv 1801.05453).
struct ContextualDecomposition {};

using Method = std::variant<Lrp, Gradient, GradientTimesInput, IntegratedGradients, SmoothGrad, Occlusion,
                            ShapleySampling, ContextualDecomposition>;

}  // namespace lstm_explain

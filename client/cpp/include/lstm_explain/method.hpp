/// @file How relevance is computed. For a parameter that is not set, the server uses its default.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>

#include "lstm_explain/tensor.hpp"

namespace lstm_explain {

/// How a gate and its signal share the relevance of their product (Arras et al. 2019, arXiv 1909.12114).
enum class ProductRule {
  all = 1,   ///< "Signal takes all" (the default): the gate receives nothing.
  half = 2,  ///< One half each.
  prop = 3,  ///< In proportion to the two values.
  abs = 4,   ///< In proportion to the two absolute values.
};

/// The quantity whose change Occlusion measures.
enum class Quantity {
  score = 1,        ///< The explained value (the default).
  probability = 2,  ///< The output after Softmax or Sigmoid.
};

/// The parts of the input that receive Shapley values.
enum class Players {
  steps = 1,     ///< Time steps (the default).
  features = 2,  ///< Features, each for all of time.
  cells = 3,     ///< Every feature of every time step.
};

/// The share of the relevance of a layer's output that an input receives.
namespace rule {
/// The epsilon rule with its own stabiliser (default 1e-6).
struct Epsilon {
  std::optional<double> epsilon{};
};
/// Increases contributions that have the sign of the output by the factor gamma (default 0.25).
struct Gamma {
  std::optional<double> gamma{};
};
/// Uses positive contributions only.
struct ZPlus {};
/// alpha (2) times the positive share minus beta (1) times the negative share; alpha - beta must be 1.
struct AlphaBeta {
  std::optional<double> alpha{}, beta{};
};
/// Distributes relevance in equal shares.
struct Flat {};
/// For layers whose inputs lie between two bounds.
struct ZBox {
  double low = 0.0, high = 1.0;
};
}  // namespace rule
using Rule = std::variant<rule::Epsilon, rule::Gamma, rule::ZPlus, rule::AlphaBeta, rule::Flat, rule::ZBox>;

/// LRP rules per layer.
struct Composite {
  /// The rules by the name of a node, of an operator ("Gemm"), or of a kind of layer ("dense", "convolution").
  std::map<std::string, Rule> rules{};
  /// The rule for layers that read the input before any other layer does.
  std::optional<Rule> first{};
};

/// Layer-wise relevance propagation with the epsilon rule (Arras et al. 2017, arXiv 1706.07206).
struct Lrp {
  std::optional<ProductRule> product_rule{};
  /// The stabiliser. Must not be negative. Default: 0.001.
  std::optional<double> epsilon{};
  /// The share of the relevance of bias and stabiliser that is distributed to the inputs of a sum, in [0, 1]. Default:
  /// 0.
  std::optional<double> bias_factor{};
  /// Different rules for some dense and convolutional layers.
  std::optional<Composite> composite{};
};

/// Partial derivatives of the explained value.
struct Gradient {};

/// Partial derivatives times the input.
struct GradientTimesInput {};

/// Gradients averaged along the line from a baseline to the input (Sundararajan et al. 2017).
struct IntegratedGradients {
  /// Number of points on the line. Default: 50.
  std::optional<std::int32_t> steps{};
  /// The baseline of each input, by name. The default is zero.
  Tensors baseline{};
};

/// Gradients averaged over noisy copies of the input (Smilkov et al. 2017).
struct SmoothGrad {
  /// Number of noisy copies. Default: 25.
  std::optional<std::int32_t> samples{};
  /// Standard deviation of the noise, as a fraction of the range of the input. Default: 0.1.
  std::optional<double> noise{};
  /// Default 0.
  std::optional<std::int64_t> seed{};
};

/// How much the explained value decreases when a baseline replaces time steps.
struct Occlusion {
  /// Number of time steps that are replaced together. Default: 1.
  std::optional<std::int32_t> window{};
  /// The baseline of each input, by name. The default is zero.
  Tensors baseline{};
  /// The quantity whose decrease is measured.
  std::optional<Quantity> of{};
};

/// Shapley values, estimated over random permutations.
struct ShapleySampling {
  /// Number of permutations. Default: 25.
  std::optional<std::int32_t> permutations{};
  /// Default 0.
  std::optional<std::int64_t> seed{};
  /// The value of absent players, by input name. The default is zero.
  Tensors baseline{};
  /// The players.
  std::optional<Players> over{};
};

/// Contextual decomposition of LSTMs (Murdoch et al. 2018, arXiv 1801.05453).
struct ContextualDecomposition {};

using Method = std::variant<Lrp, Gradient, GradientTimesInput, IntegratedGradients, SmoothGrad, Occlusion,
                            ShapleySampling, ContextualDecomposition>;

}  // namespace lstm_explain

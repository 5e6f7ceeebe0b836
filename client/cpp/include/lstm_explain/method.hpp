// Generated from proto/lstm_explain/v1/method.proto and the server's registry by `make proto`; do not edit.
/// @file
/// How to compute relevance. A request without a method uses the default of the model (model.yaml). If model.yaml has
/// no default, the request uses LRP with its default parameters. Where a request names the default method of the model,
/// its parameters that are unset are those of the model. A parameter that is not set takes the server's default.
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
  /// "Signal takes all": the signal receives all relevance, the gate none. The default.
  all = 1,
  /// Gate and signal receive one half each.
  half = 2,
  /// Gate and signal share relevance in proportion to their values.
  prop = 3,
  /// Gate and signal share relevance in proportion to their absolute values.
  abs = 4,
  /// As ALL, except in attention, which has the rules of AttnLRP (Achtibat et al. 2024, arXiv 2402.05602): products of
  /// weights and values, and of queries and keys, give each operand one half, and the softmax has a rule of its own.
  attn = 5,
};

/// The quantity whose change Occlusion measures.
enum class Quantity {
  /// The explained value. The default.
  score = 1,
  /// The output itself if it ends in Softmax or Sigmoid; otherwise its Softmax.
  probability = 2,
};

/// The units of the input that Occlusion, ShapleySampling and Counterfactual replace.
enum class Players {
  /// Time steps. The default.
  steps = 1,
  /// Features, each over all time steps.
  features = 2,
  /// Every feature of every time step.
  cells = 3,
  /// The groups of the request, which take the place of any other units.
  groups = 4,
};

/// The share of the relevance of output j of a layer that its input i receives. Recurrent layers accept only Epsilon.
namespace rule {

/// x_i w_ij divided by the stabilised sum (Bach et al. 2015, equation 58).
struct Epsilon {
  /// The stabiliser. Must not be negative. Default: 1e-6.
  std::optional<double> epsilon{};
};

/// As Epsilon, but contributions with the sign of the output are increased by the factor gamma (Montavon et al. 2019,
/// section 10.2.3).
struct Gamma {
  /// Must not be negative. Default: 0.25.
  std::optional<double> gamma{};
};

/// Uses positive contributions only (Montavon et al. 2017, equation 12).
struct ZPlus {};

/// alpha times the positive share minus beta times the negative share (Bach et al. 2015, equation 60).
struct AlphaBeta {
  /// alpha - beta must be 1. Default: 2.
  std::optional<double> alpha{};
  /// Must not be negative. Default: 1.
  std::optional<double> beta{};
};

/// Distributes relevance in equal shares (Lapuschkin et al. 2019).
struct Flat {};

/// For inputs between two bounds: x_i w_ij - low w_ij+ - high w_ij-, divided by the sum of these terms (Montavon et al.
/// 2017, section 5.3).
struct ZBox {
  /// Lower bound of all inputs. Required.
  double low{};
  /// Upper bound of all inputs, greater than `low`. Required.
  double high{};
};

/// For inputs without bounds: w_ij^2 divided by the sum of these squares (Montavon et al. 2017).
struct WSquare {};

}  // namespace rule

using Rule = std::variant<rule::Epsilon, rule::Gamma, rule::ZPlus, rule::AlphaBeta, rule::Flat, rule::ZBox,
                          rule::WSquare>;

/// Rules per layer (Anders et al. 2021, arXiv 2106.13200). Layers without a rule, and all other nodes, use the
/// stabiliser of `Lrp`.
struct Composite {
  /// The rules by the name of a node, of an operator (`Gemm`), or of a kind of layer (`dense`: MatMul, Gemm;
  /// `convolution`: Conv, ConvTranspose). The name of a node takes precedence, then `first`, the operator, and the
  /// kind.
  std::map<std::string, Rule> rules{};
  /// The rule for layers that read the input before any other layer does.
  std::optional<Rule> first{};
};

/// A background set: samples from data that take the place of one baseline. The answer is the mean of the answers
/// against each of the samples that are drawn from the set.
struct Background {
  /// The samples: one tensor per input, by name, with the samples along the first axis and then the shape of the input
  /// without its batch axis. An input without a tensor keeps its own values and gets no relevance. If empty, the
  /// samples of the model (`background.npz` in its folder). Responses omit the samples.
  Tensors samples{};
  /// Number of samples that are drawn, without replacement; all of them if the set has no more. The cost of a request
  /// grows in proportion. Default: 20.
  std::optional<std::int32_t> draws{};
  /// Seed of the random number generator that draws them. Default: 0.
  std::optional<std::int64_t> seed{};
};

/// Consecutive time steps.
struct Span {
  /// The first step, counted from 0. Required.
  std::int32_t start{};
  /// The step after the last one, greater than `start`. Required.
  std::int32_t end{};
};

/// Layer-wise relevance propagation (Arras et al. 2017, arXiv 1706.07206, equation 1). Relevance is divided by sums z,
/// which a stabiliser keeps from zero: the relative one, or the absolute `epsilon`. The relative one divides by z +
/// beta * (S - |z|) * sign(z), where S is the sum of the absolute terms of z, and has one beta for each kind of sum.
struct Lrp {
  std::optional<ProductRule> product_rule{};
  /// The absolute stabiliser: relevance is divided by z + epsilon * sign(z). Must not be negative, and excludes the
  /// fields of the relative stabiliser: a request that sets one kind drops the other kind of the model's default.
  /// Default: none. The papers use 0.001.
  std::optional<double> epsilon{};
  /// The share of the relevance of the bias and the stabiliser that is distributed to the inputs of a sum, in [0, 1].
  /// Default: 0, so that bias and stabiliser absorb it.
  std::optional<double> bias_factor{};
  /// Different rules for some dense and convolutional layers. Default: none.
  std::optional<Composite> composite{};
  /// The relative stabiliser's beta for the pre-activations of recurrent layers. Must not be negative. Default: 0.1.
  std::optional<double> stabiliser{};
  /// Its beta for the sums that carry the state of recurrent layers. Must not be negative. Default: 0.
  std::optional<double> cell_stabiliser{};
  /// Its beta for all other layers. Must not be negative. Default: 0.02.
  std::optional<double> layer_stabiliser{};
  /// The most that the density of relevance (relevance over state) grows on its way back through the hidden states of a
  /// recurrent layer, as a multiple of the density that arrives from above. At least 1. Default: 10.
  std::optional<double> ceiling{};
};

/// Partial derivatives of the explained value.
struct Gradient {};

/// Partial derivatives times the input.
struct GradientTimesInput {};

/// Gradients averaged along the straight line from the baseline to the input (Sundararajan et al. 2017).
struct IntegratedGradients {
  /// Number of points on the line to begin with. Default: 50.
  std::optional<std::int32_t> steps{};
  /// The starting point: one tensor per input, by name. An input without a tensor starts at zero. The tensor is
  /// broadcast to the shape of the input: it is a scalar, has one entry per feature, or has the whole shape. For token
  /// ids, the tokens whose embeddings are the starting point.
  Tensors baseline{};
  /// Points are added until the error of the integral is within 1 % of the explained value, or until there are this
  /// many points; if this is less than `steps`, no points are added. The response contains the number of points in
  /// `steps_used`. Default: 500.
  std::optional<std::int32_t> max_steps{};
  /// The background set to start from, instead of `baseline` (expected gradients, Erion et al. 2021, arXiv 1906.10670).
  std::optional<Background> background{};
};

/// Gradients averaged over noisy copies of the input (Smilkov et al. 2017).
struct SmoothGrad {
  /// Number of noisy copies. Default: 25.
  std::optional<std::int32_t> samples{};
  /// Standard deviation of the noise, as a fraction of the range of each feature over time. Default: 0.1.
  std::optional<double> noise{};
  /// Seed of the random number generator. Default: 0.
  std::optional<std::int64_t> seed{};
};

/// How much the explained value decreases when a baseline replaces a window of time steps, a feature or a cell.
struct Occlusion {
  /// Number of time steps that are replaced together. Must be 1 unless `over` is STEPS. Default: 1.
  std::optional<std::int32_t> window{};
  /// The replacement: one tensor per input, by name, that is broadcast to the shape of the input. The default is zero.
  Tensors baseline{};
  /// The quantity whose decrease is measured.
  std::optional<Quantity> of{};
  /// The parts that are replaced.
  std::optional<Players> over{};
  /// The background set whose samples replace them, instead of `baseline`.
  std::optional<Background> background{};
};

/// Shapley values, exact for few players and otherwise estimated over random permutations. Every second permutation is
/// the reverse of the previous one.
struct ShapleySampling {
  /// Number of permutations. The samples drawn from a background set share them, but each has at least four. Default:
  /// 25.
  std::optional<std::int32_t> permutations{};
  /// Seed of the random number generator. Default: 0.
  std::optional<std::int64_t> seed{};
  /// The value of absent players: one tensor per input, by name, that is broadcast to the shape of the input. The
  /// default is zero.
  Tensors baseline{};
  /// The players.
  std::optional<Players> over{};
  /// The background set whose samples absent players take their values from, instead of `baseline`.
  std::optional<Background> background{};
  /// Permutations are added until no player of any sample has a larger standard error than this, in units of the
  /// explained value, or until there are `max_permutations`, which is a warning. Draws from a background set add an
  /// error of their own, which more permutations do not lower. Default: none, so that no permutations are added.
  std::optional<double> standard_error{};
  /// Number of permutations at most, where `standard_error` is set. Default: 1000.
  std::optional<std::int32_t> max_permutations{};
  /// Up to this many players, the model scores every coalition (2 to the power of the number of players), and the
  /// values are exact. At most 13; 0 for never. Default: 10.
  std::optional<std::int32_t> exact_players{};
};

/// Contextual decomposition of LSTMs (Murdoch et al. 2018, arXiv 1801.05453): what each time step contributes by
/// itself.
struct ContextualDecomposition {
  /// Time steps that are valued as one phrase; every other step is valued by itself. Must lie within the sequence of
  /// every sample. The value of the span is divided equally among its steps. Default: none.
  std::optional<Span> span{};
};

/// Gradients at random points on the line from the baseline to the input, times the difference, averaged: an estimate
/// of integrated gradients with a standard error (Lundberg and Lee 2017, arXiv 1705.07874).
struct GradientShap {
  /// Number of points. The samples drawn from a background set share them, but each has at least two. Default: 50.
  std::optional<std::int32_t> samples{};
  /// Seed of the random number generator. Default: 0.
  std::optional<std::int64_t> seed{};
  /// The starting point, as in IntegratedGradients. The default is zero.
  Tensors baseline{};
  /// The background set to start from, instead of `baseline`.
  std::optional<Background> background{};
};

/// The fewest time steps, features or cells whose replacement turns the prediction, found greedily in the order of
/// their relevance and checked by the model (after Martens and Provost 2014). The replaced ones have the relevance that
/// the margin regains when they are put back; all others have zero. `explained` is the margin: the target's entry minus
/// the largest other one, or the value minus `threshold`. The prediction has turned where `ledger.absorbed`, the margin
/// of the changed input, has the other sign; where it cannot be turned, no relevance is set and a warning says so.
/// `steps_used` is the number of runs of the model.
struct Counterfactual {
  /// The most units that are replaced. Default: 0, any number.
  std::optional<std::int32_t> most{};
  /// How often the model may run to put units back that need not be replaced, for each draw from a background set.
  /// Default: 1000.
  std::optional<std::int32_t> max_runs{};
  /// The prediction turns where the explained value crosses this number. Default: none, where another entry of the
  /// output becomes the largest, or the logit of an output of one entry crosses zero.
  std::optional<double> threshold{};
  /// The replacement: one tensor per input, by name, that is broadcast to the shape of the input. The default is zero.
  Tensors baseline{};
  /// The parts that are replaced.
  std::optional<Players> over{};
  /// The background set whose samples replace them, instead of `baseline`. Each is tried; the one is kept that needs
  /// the fewest units.
  std::optional<Background> background{};
};

using Method = std::variant<Lrp, Gradient, GradientTimesInput, IntegratedGradients, SmoothGrad, Occlusion,
                            ShapleySampling, ContextualDecomposition, GradientShap, Counterfactual>;

}  // namespace lstm_explain

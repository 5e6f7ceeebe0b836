/// @file Requests and results.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lstm_explain/method.hpp"
#include "lstm_explain/tensor.hpp"

namespace lstm_explain {

/// Selects what to explain: one scalar per sample, taken from one output. Parts that are omitted take the defaults of
/// the model.
struct Target {
  /// Name of the output.
  std::string output{};
  /// A position in the output of one sample, with one number per axis, or the concatenated positions of all samples.
  /// Default: the largest entry on the last axis.
  std::vector<std::int64_t> indices{};
  /// A second position. The explained value is output[indices] - output[contrast].
  std::vector<std::int64_t> contrast{};
  /// Explains the sum of weights times output. Has the shape of the output of one sample. Cannot be combined with
  /// indices.
  std::optional<Tensor> weights{};
  /// The batch axis of the output.
  std::optional<std::int32_t> batch_axis{};
  /// The model takes one sample and has no batch axis.
  bool no_batch_axis = false;
  /// Explains the value before the final activation (such as Softmax, Sigmoid or Exp) of the output. Default: true.
  std::optional<bool> pre_activation{};

  /// One position of an output.
  static Target at(std::vector<std::int64_t> indices, std::string output = {}) {
    Target out;
    out.output = std::move(output);
    out.indices = std::move(indices);
    return out;
  }
};

/// A request for one explanation.
struct Request {
  /// Name of the model.
  std::string model{};
  /// One tensor for each input, by name, including the batch axis. An input with a tokenizer also accepts text.
  Tensors inputs{};
  /// Default: the default of the model, otherwise LRP.
  std::optional<Method> method{};
  /// Default: the default of the model, otherwise the largest entry of its first output.
  std::optional<Target> target{};
  /// Default: the newest version that is ready.
  std::string version{};
  /// Names of inner values of the ONNX graph whose relevance the result also contains.
  std::vector<std::string> capture{};
  /// Identifies the answer in a stream. By default, the position of the request in the stream, from "0".
  std::string id{};
};

/// Accounts for the whole explained value of each sample: explained = inputs + initial_states + absorbed + residual.
/// Each has one number per sample.
struct Ledger {
  /// Sum of the relevance of all inputs.
  std::vector<double> inputs;
  /// Relevance of initial states that are constants of the model.
  std::vector<double> initial_states;
  /// For LRP, the relevance that biases, constants and stabilisers absorb. For a method with a baseline, the value of
  /// the baseline.
  std::vector<double> absorbed;
  /// The rest. For LRP, rounding.
  std::vector<double> residual;
  /// `absorbed`, split by node.
  std::map<std::string, std::vector<double>> by_node;
};

/// The explanation of one batch.
struct Result {
  /// Model and version that answered.
  std::string model, version;
  /// Maps the name of each input to its relevance, in the shape of the input. For token ids and text, it has one number
  /// per token.
  Tensors relevance;
  /// The prediction, by output name.
  Tensors outputs;
  /// The explained value of each sample.
  std::vector<double> explained;
  Ledger ledger;
  /// Relevance of the inner values that the request captures.
  Tensors captured;
  /// The tokens of inputs sent as text, in the shape of their relevance. Padding is the empty string.
  Tensors tokens;
  /// For ShapleySampling, the standard error of the relevance, by input.
  Tensors standard_error;
  /// The method and the target that the server used, with all parameters.
  std::optional<Method> method;
  std::optional<Target> target;
  /// Reasons not to rely on the answer, one sentence each. If empty, the answer can be acted on.
  std::vector<std::string> warnings;
  /// How `explained` relates to the output of the target: "output" (the output itself), "logit" (the value before its
  /// Softmax or Sigmoid), "score" (before LogSoftmax, Exp or Softplus) or "probability" (the output converted to a
  /// probability). Empty if the server is older than this field.
  std::string explained_quantity;
};

}  // namespace lstm_explain

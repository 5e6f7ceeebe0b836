/// @file
/// What is asked, and what comes back.
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

/// What is explained: one scalar a sample, taken from one output. What is left out is the model's default.
struct Target {
  /// Name of the output.
  std::string output{};
  /// A position in one sample's output, a number for each of its axes; or one such position after another for every
  /// sample. Default: the largest entry on the last axis.
  std::vector<std::int64_t> indices{};
  /// A second position: output[indices] - output[contrast] is explained.
  std::vector<std::int64_t> contrast{};
  /// Explains the sum of weights times output; of the shape of one sample's output. Excludes indices.
  std::optional<Tensor> weights{};
  /// The output's axis along which samples lie.
  std::optional<std::int32_t> batch_axis{};
  /// The model takes one sample and has no batch axis.
  bool no_batch_axis = false;
  /// Explain the value before a Softmax, LogSoftmax or Sigmoid at the output's end; default true.
  std::optional<bool> pre_activation{};

  /// One position of an output.
  static Target at(std::vector<std::int64_t> indices, std::string output = {}) {
    Target out;
    out.output = std::move(output);
    out.indices = std::move(indices);
    return out;
  }
};

/// One explanation to ask for.
struct Request {
  /// Name of the model.
  std::string model{};
  /// A tensor for every input, with the batch axis that the model has. An input with a tokenizer may be text.
  Tensors inputs{};
  /// Default: the model's own, else LRP.
  std::optional<Method> method{};
  /// Default: the model's own, else the largest entry of its first output.
  std::optional<Target> target{};
  /// Default: the newest version that is ready.
  std::string version{};
  /// Names of inner values (as in the ONNX graph) whose relevance is wanted too.
  std::vector<std::string> capture{};
  /// Comes back with the answer of a stream; default: the request's place in it, from "0".
  std::string id{};
};

/// Where all of the explained value went: for every sample,
/// explained = inputs + initial_states + absorbed + residual. Each has one number a sample.
struct Ledger {
  /// Sum of the relevance of all inputs.
  std::vector<double> inputs;
  /// Relevance of initial states that are constants of the model.
  std::vector<double> initial_states;
  /// LRP: what biases and stabilisers kept. A method with a baseline: what the baseline scores.
  std::vector<double> absorbed;
  /// What is left. With LRP: rounding.
  std::vector<double> residual;
  /// `absorbed`, by node.
  std::map<std::string, std::vector<double>> by_node;
};

/// One batch, explained.
struct Result {
  /// Which model answered.
  std::string model, version;
  /// By input, of the input's shape; for token ids and text one number a token.
  Tensors relevance;
  /// What the model predicted, by output.
  Tensors outputs;
  /// The scalar explained, one a sample.
  std::vector<double> explained;
  Ledger ledger;
  /// Relevance of the inner values asked for.
  Tensors captured;
  /// The words of inputs sent as text, of the shape of their relevance; padding is the empty string.
  Tensors tokens;
  /// With ShapleySampling: the standard error of the relevance, by input.
  Tensors standard_error;
  /// As the server used them, with every parameter.
  std::optional<Method> method;
  std::optional<Target> target;
  /// Why the answer should not be relied on, a sentence each; empty: it can be acted on.
  std::vector<std::string> warnings;
  /// What `explained` is of the target's output: "output", the output itself; "logit" or "score", the value before its
  /// Softmax or Sigmoid, or before its LogSoftmax; "probability", the output made one. Empty: the server is older than
  /// this field.
  std::string explained_quantity;
};

}  // namespace lstm_explain

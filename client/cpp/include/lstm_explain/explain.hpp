// SPDX-License-Identifier: Apache-2.0

/// @file
/// Requests and results.
///
/// The functions read and write are for the library only. They are templates, so that this header needs no protobuf.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "lstm_explain/method.hpp"
#include "lstm_explain/target.hpp"
#include "lstm_explain/tensor.hpp"

namespace lstm_explain {

/// Cuts a time series into segments.
struct ChangePoints {
  /// Number of segments at most. Default: 10.
  std::optional<std::int32_t> segments{};
  /// What a cut must lower the sum of squared deviations by, in units of the variance of the noise. Default:
  /// (features + 1) times the logarithm of the number of steps.
  std::optional<double> penalty{};
};

/// Features of one input that belong together.
struct FeatureGroup {
  std::string name{};
  /// Name of the input. May be empty if the model has only one input with features.
  std::string input{};
  /// Names, or positions on the last axis of the input.
  std::vector<std::string> features{};

  template <class Message, class Read>
  void read(const Message& message, Read read) {
    read(message.name(), name);
    read(message.input(), input);
    read(message.features(), features);
  }
};

/// Divides the inputs into groups of entries that belong together, such as days of hourly steps. At most one of window,
/// words and change_points is set; without any, all steps belong together.
struct Groups {
  /// This many consecutive steps. 0 for none.
  std::int32_t window = 0;
  /// The tokens of each word, in inputs sent as text.
  bool words = false;
  /// Segments of inputs of floating-point numbers, between which the mean of a feature changes.
  std::optional<ChangePoints> change_points{};
  /// Features of an input in no group form a group by themselves.
  std::vector<FeatureGroup> features{};
  /// Uses the feature groups of the model instead.
  bool model_features = false;

  template <class Message, class Write>
  void write(Message* message, Write write) const {
    if (window != 0) {
      message->set_window(window);
    } else if (words) {
      message->set_words(true);
    } else if (change_points) {
      auto* cuts = message->mutable_change_points();
      if (change_points->segments) cuts->set_segments(*change_points->segments);
      if (change_points->penalty) cuts->set_penalty(*change_points->penalty);
    }
    for (const FeatureGroup& group : features) {
      auto* out = message->add_features();
      write(group.name, "groups.features.name", out->mutable_name());
      write(group.input, "groups.features.input", out->mutable_input());
      write(group.features, "groups.features.features", out->mutable_features());
    }
    message->set_model_features(model_features);
  }
};

/// The groups of each input, by its name. A sample that has fewer groups than another has empty names and zeros behind
/// them.
struct GroupRelevance {
  /// The sums over the entries of each group, of shape [batch, groups].
  Tensors relevance{};
  /// The names, such as "steps 0-23, weather", of shape [batch, groups].
  Tensors names{};
  /// The first step of each group and the step after its last one, of shape [batch, groups, 2].
  Tensors steps{};
  /// The standard error of relevance, for methods that draw samples.
  Tensors standard_error{};

  template <class Message, class Read>
  void read(const Message& message, Read read) {
    read(message.relevance(), relevance);
    read(message.names(), names);
    read(message.steps(), steps);
    read(message.standard_error(), standard_error);
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
  /// Several targets instead of one, for Client::explain_many and in streams.
  std::vector<TargetSet> targets{};
  /// Asks for a receipt of the answer. The server needs a key to sign it.
  bool receipt{};
  /// What the prediction of a sample must meet to be explained, such as "probability > 0.8" or "class is positive and
  /// explained > 3". Other samples are only predicted; Result::not_explained says why.
  std::string condition{};
  /// Groups of entries whose relevance the result also contains. They are the players of Occlusion and ShapleySampling,
  /// and sums under other methods.
  std::optional<Groups> groups{};
  /// By inner value (as in capture), the units that relevance passes through. That of other units is absorbed.
  std::map<std::string, std::vector<std::int64_t>> through{};

  template <class Message, class Write>
  void write(Message* message, Write write) const {
    write(model, "model", message->mutable_model());
    write(version, "version", message->mutable_version());
    write(inputs, "inputs", message->mutable_inputs());
    if (target) write(*target, message->mutable_target());
    if (method) write(*method, message->mutable_method());
    write(capture, "capture", message->mutable_capture());
    for (const TargetSet& set : targets) write(set, message->add_targets());
    message->set_receipt(receipt);
    write(condition, "condition", message->mutable_condition());
    if (groups) groups->write(message->mutable_groups(), write);
    for (const auto& [value, units] : through) {
      auto* out = message->add_through();
      write(value, "through.value", out->mutable_value());
      write(units, out->mutable_units());
    }
  }
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

  template <class Message, class Read>
  void read(const Message& message, Read read) {
    read(message.inputs(), inputs);
    read(message.initial_states(), initial_states);
    read(message.absorbed(), absorbed);
    read(message.residual(), residual);
    for (const auto& share : message.by_node()) read(share.absorbed(), by_node[share.node()]);
  }
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
  /// A signed record of the answer, if the request asked for one, which `lstm-explain verify` checks; otherwise empty.
  std::string receipt;
  /// For a request with a condition, one text per sample: why it is not explained, or empty. The relevance and ledger
  /// of such a sample are NaN.
  std::vector<std::string> not_explained;
  /// The groups that the request asked for, with their relevance.
  GroupRelevance groups;

  template <class Message, class Read>
  void read(const Message& message, Read read) {
    read(message.model(), model);
    read(message.version(), version);
    read(message.relevance(), relevance);
    read(message.outputs(), outputs);
    read(message.explained(), explained);
    read(message.ledger(), ledger);
    read(message.captured(), captured);
    read(message.tokens(), tokens);
    read(message.standard_error(), standard_error);
    read(message.method(), method);
    if (message.has_target()) read(message.target(), target);
    read(message.warnings(), warnings);
    read(message.explained_quantity(), explained_quantity);
    read(message.receipt(), receipt);
    read(message.not_explained(), not_explained);
    read(message.groups(), groups);
  }
};

}  // namespace lstm_explain

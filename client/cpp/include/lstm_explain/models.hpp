// SPDX-License-Identifier: Apache-2.0

/// @file
/// The models that a server has.
///
/// The functions named read are for the library only. They are templates, so that this header needs no protobuf.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "lstm_explain/explain.hpp"

namespace lstm_explain {

enum class ModelState { unspecified = 0, loading = 1, ready = 2, failed = 3, unloaded = 4 };

/// "loading", "ready", …
const char* name(ModelState state);

/// One version of a model.
struct ModelSummary {
  std::string name, version;
  ModelState state = ModelState::unspecified;
  /// In the state failed, the reason. In the state ready, why newer files could not be loaded, if that happened.
  std::string reason;
  std::string description;
  /// Over the files of the version: the same wherever the same files are served.
  std::string digest;
  /// Whether this version answers requests that name none.
  bool is_default = false;
  /// The share of these requests that it gets as the canary, from 0 to 1.
  double canary_share = 0;

  template <class Message, class Read>
  void read(const Message& message, Read read) {
    read(message.name(), name);
    read(message.version(), version);
    state = static_cast<ModelState>(message.state());
    read(message.reason(), reason);
    read(message.description(), description);
    read(message.digest(), digest);
    is_default = message.is_default();
    canary_share = message.canary_share();
  }
};

/// Which version of a model answers requests that name none.
struct ModelRoute {
  /// Empty: the newest version that is ready.
  std::string default_version;
  /// Empty: none.
  std::string canary_version;
  /// The share of the requests that the canary gets, from 0 to 1.
  double canary_share = 0;
  /// The default version before the last change of it; in answers only.
  std::string previous_version;

  template <class Message, class Read>
  void read(const Message& message, Read read) {
    read(message.default_version(), default_version);
    read(message.canary_version(), canary_version);
    canary_share = message.canary_share();
    read(message.previous_version(), previous_version);
  }
};

/// The size of an axis, or its symbolic name.
using Dimension = std::variant<std::int64_t, std::string>;

/// Type and axes of an input or output.
struct TensorSpec {
  DType dtype = DType::float32;
  std::vector<Dimension> shape;

  template <class Message, class Read>
  void read(const Message& message, Read read) {
    read(message.dtype(), dtype);
    shape.clear();
    for (const auto& axis : message.shape()) {
      if (axis.has_size()) {
        shape.emplace_back(axis.size());
      } else {
        shape.emplace_back(axis.symbol());
      }
    }
  }
};

/// What LRP does at one node of the graph.
struct NodeReport {
  std::string name, op_type;
  bool supported = false;
  /// The rule that LRP uses, or the reason why there is none.
  std::string rule;

  template <class Message, class Read>
  void read(const Message& message, Read read) {
    read(message.name(), name);
    read(message.op_type(), op_type);
    supported = message.supported();
    read(message.rule(), rule);
  }
};

/// Names by input or output.
using Names = std::map<std::string, std::vector<std::string>>;

/// A model with its inputs, outputs and defaults.
struct ModelDetail : ModelSummary {
  std::map<std::string, TensorSpec> inputs, outputs;
  /// Whether LRP supports the model. Perturbation methods support all models.
  bool lrp_supported = false;
  std::vector<NodeReport> nodes;
  std::optional<Method> default_method;
  std::optional<Target> default_target;
  /// Names of the entries on the last axis, by output and by input.
  Names class_names, feature_names;
  /// Inputs that accept text.
  std::vector<std::string> text_inputs;
  /// Map the name of an input to its batch axis and its time axis. Inputs without that axis are omitted.
  std::map<std::string, std::int32_t> batch_axes, time_axes;
  /// Inputs whose batch and time axes are guesses; set them in model.yaml.
  std::vector<std::string> guessed_axes;
  /// Maps the name of an input to the number of samples that the background set of the model has of it. Empty if the
  /// model has no background set.
  std::map<std::string, std::int32_t> background_samples;
  /// Maps the name of an input to examples of it, as text: a text for an input that accepts text, for others a table as
  /// CSV, with a line per time step.
  Names examples;
  /// Maps the name of an input or output to its unit: one unit for all entries, or one for each entry on the last axis.
  Names units;
  /// The groups of features that `model_features` of Groups stands for.
  std::vector<FeatureGroup> feature_groups;

  template <class Message, class Read>
  void read(const Message& message, Read read) {
    ModelSummary::read(message.summary(), read);
    for (const auto& spec : message.inputs()) read(spec, inputs[spec.name()]);
    for (const auto& spec : message.outputs()) read(spec, outputs[spec.name()]);
    lrp_supported = message.lrp_supported();
    read(message.nodes(), nodes);
    read(message.default_method(), default_method);
    if (message.has_default_target()) read(message.default_target(), default_target);
    read(message.class_names(), class_names);
    read(message.feature_names(), feature_names);
    read(message.text_inputs(), text_inputs);
    read(message.batch_axes(), batch_axes);
    read(message.time_axes(), time_axes);
    read(message.guessed_axes(), guessed_axes);
    read(message.units(), units);
    read(message.background_samples(), background_samples);
    read(message.examples(), examples);
    read(message.feature_groups(), feature_groups);
  }
};

/// A model to add to a server.
struct Import {
  std::string name{};
  /// The file of the model.
  std::filesystem::path path{};
  /// Additional files of the model: external weights, or a tokenizer.
  std::vector<std::filesystem::path> files{};
  /// The content of model.yaml. Optional.
  std::string config{};
  /// Default: the newest version plus one.
  std::string version{};
};

}  // namespace lstm_explain

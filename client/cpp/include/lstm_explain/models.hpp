/// @file
/// The models that a server has.
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
};

/// The size of an axis, or its symbolic name.
using Dimension = std::variant<std::int64_t, std::string>;

/// Type and axes of an input or output.
struct TensorSpec {
  DType dtype = DType::float32;
  std::vector<Dimension> shape;
};

/// What LRP does at one node of the graph.
struct NodeReport {
  std::string name, op_type;
  bool supported = false;
  /// The rule that LRP uses, or the reason why there is none.
  std::string rule;
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
  /// Maps the name of an input or output to its unit: one unit for all entries, or one for each entry on the last axis.
  Names units;
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

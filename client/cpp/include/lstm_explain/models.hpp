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
  /// Why the state is failed; if it is ready, why newer files could not be loaded.
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

/// What will happen at one node of the graph.
struct NodeReport {
  std::string name, op_type;
  bool supported = false;
  /// The rule that LRP will use, or why there is none.
  std::string rule;
};

/// Names by input or output.
using Names = std::map<std::string, std::vector<std::string>>;

/// A model with its inputs, outputs and defaults.
struct ModelDetail : ModelSummary {
  std::map<std::string, TensorSpec> inputs, outputs;
  /// Whether LRP can explain the model; perturbation methods always can.
  bool lrp_supported = false;
  std::vector<NodeReport> nodes;
  std::optional<Method> default_method;
  std::optional<Target> default_target;
  /// Names of the entries of the last axis, by output and by input.
  Names class_names, feature_names;
  /// Inputs that may be sent as text.
  std::vector<std::string> text_inputs;
  /// By input, the axis of samples and that of time steps; an input without such an axis is not there.
  std::map<std::string, std::int32_t> batch_axes, time_axes;
  /// Inputs for which these two are a guess, to be set in model.yaml.
  std::vector<std::string> guessed_axes;
  /// By input or output: one unit of all entries, or one for each entry of the last axis.
  Names units;
};

/// A model to add to a server.
struct Import {
  std::string name{};
  /// The file of the model.
  std::filesystem::path path{};
  /// Files that lie beside it: weights that are kept apart, a tokenizer.
  std::vector<std::filesystem::path> files{};
  /// Content of a model.yaml, if any.
  std::string config{};
  /// Default: one above the newest.
  std::string version{};
};

}  // namespace lstm_explain

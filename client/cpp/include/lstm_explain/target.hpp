// SPDX-License-Identifier: Apache-2.0

/// @file
/// What to explain.
///
/// The functions read and write are for the library only. They are templates, so that this header needs no protobuf.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "lstm_explain/tensor.hpp"

namespace lstm_explain {

/// The quantity that a Measure computes.
enum class MeasureKind {
  /// The mean of the squared differences from the reference.
  mean_squared_error = 1,
  /// The mean of the absolute differences from the reference.
  mean_absolute_error = 2,
  /// The sum of the absolute entries.
  l1_norm = 3,
  /// The square root of the sum of the squared entries.
  l2_norm = 4,
  /// The logarithm of the probability of the entry at the target's indices.
  log_probability = 5,
  /// The probability of the entry at the target's indices, by the softmax over the last axis.
  probability = 6,
  /// The sum of the entries along a path, whose labels the target's indices are, one per step. By default the best path.
  path_score = 7,
};

/// A number of the output of each sample that is explained instead of an entry.
struct Measure {
  MeasureKind kind = MeasureKind::mean_squared_error;
  /// The name of the input that an error compares the output with.
  std::string input{};
  /// The array that an error compares the output with: of its shape, or of that of one sample. For a path: what the best
  /// one gains from one label to the next.
  std::optional<Tensor> tensor{};
  /// How many time steps the output is ahead of the input.
  std::int32_t ahead = 0;
  /// For a path: the label that CTC drops. The target's indices are then labels without blanks.
  std::optional<std::int32_t> blank{};

  template <class Message, class Write>
  void write(Message* message, Write write) const {
    message->set_kind(static_cast<decltype(message->kind())>(kind));
    if (!input.empty()) write(input, "target.measure.input", message->mutable_input());
    if (tensor) write(*tensor, "", message->mutable_tensor());
    message->set_ahead(ahead);
    if (blank) message->set_blank(*blank);
  }

  template <class Message, class Read>
  void read(const Message& message, Read read) {
    kind = static_cast<MeasureKind>(message.kind());
    read(message.input(), input);
    ahead = message.ahead();
    if (message.has_blank()) blank = message.blank();
  }
};

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
  /// Explains a number of the whole output instead of an entry.
  std::optional<Measure> measure{};

  /// One position of an output.
  static Target at(std::vector<std::int64_t> indices, std::string output = {}) {
    Target out;
    out.output = std::move(output);
    out.indices = std::move(indices);
    return out;
  }

  template <class Message, class Write>
  void write(Message* message, Write write) const {
    write(output, "target.output", message->mutable_output());
    write(indices, message->mutable_indices());
    write(contrast, message->mutable_contrast_indices());
    if (weights) write(*weights, "", message->mutable_weights());
    if (batch_axis) message->set_batch_axis(*batch_axis);
    message->set_no_batch_axis(no_batch_axis);
    if (pre_activation) message->set_pre_activation(*pre_activation);
    if (measure) measure->write(message->mutable_measure(), write);
  }

  template <class Message, class Read>
  void read(const Message& message, Read read) {
    read(message.output(), output);
    read(message.indices(), indices);
    read(message.contrast_indices(), contrast);
    if (message.has_weights()) read(message.weights(), weights);
    if (message.has_batch_axis()) batch_axis = message.batch_axis();
    no_batch_axis = message.no_batch_axis();
    if (message.has_pre_activation()) pre_activation = message.pre_activation();
    if (message.has_measure()) measure.emplace().read(message.measure(), read);
  }
};

/// A target for every entry of an output along one of its axes, such as every class or every step of a forecast.
struct Every {
  /// The axis, counted in the output of one sample (the output without its batch axis): 0 for steps; -1, the last one,
  /// for classes. Default: -1.
  std::optional<std::int32_t> axis{};
  /// Positions on the axis. If empty, all of them.
  std::vector<std::int64_t> entries{};
  /// What the targets have in common: the output, its batch axis, pre_activation and, in indices, one position on the
  /// other axes. Without indices, every target is the largest entry on the last of the other axes.
  std::optional<Target> target{};

  /// These entries on the last axis of the default output; without any, all of them.
  static Every classes(std::vector<std::int64_t> entries = {}) { return {-1, std::move(entries), {}}; }
  /// These entries on the first axis of one sample's default output; without any, all of them.
  static Every steps(std::vector<std::int64_t> entries = {}) { return {0, std::move(entries), {}}; }

  template <class Message, class Write>
  void write(Message* message, Write write) const {
    if (axis) message->set_axis(*axis);
    write(entries, message->mutable_entries());
    if (target) write(*target, message->mutable_target());
  }
};

/// One target, a target for every entry of an axis, or the default target of the model (std::monostate).
using TargetSet = std::variant<std::monostate, Target, Every>;

}  // namespace lstm_explain

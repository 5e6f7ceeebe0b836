// SPDX-License-Identifier: Apache-2.0

/// @file
/// Operations: explanations and batch jobs that the server keeps until they expire, whether or not anybody waits.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lstm_explain/error.hpp"
#include "lstm_explain/explain.hpp"

namespace lstm_explain {

enum class OperationKind { unspecified = 0, explain = 1, batch = 2 };
enum class OperationState { unspecified = 0, pending = 1, running = 2, succeeded = 3, failed = 4, cancelled = 5 };

/// "pending", "running", …
const char* name(OperationState state);

/// What a batch job has done.
struct BatchSummary {
  /// Rows that are explained, that are not, and that have a warning.
  std::int64_t rows = 0, failed = 0, warned = 0;
  /// The largest residual, as a share of the explained value.
  double worst = 0;
};

/// An operation as the server last described it.
struct Operation {
  using Time = std::chrono::system_clock::time_point;

  /// Identifies the operation in all calls.
  std::string name;
  OperationKind kind = OperationKind::unspecified;
  OperationState state = OperationState::unspecified;
  /// The version was chosen at the start.
  std::string model, version;
  /// Runs of the model, or rows of a batch job; 0 where nothing is known.
  std::int64_t done = 0, total = 0;
  /// How often it has begun; more than once where a server or one of its processes ended meanwhile.
  int attempts = 0;
  Time created{};
  /// None until it has ended. The server removes it when it expires.
  std::optional<Time> ended{}, expires{};
  /// That of an explanation with one target, or one per target. Lists leave results out.
  std::vector<Result> results{};
  std::optional<BatchSummary> batch{};
  /// Why there is no result.
  std::optional<Error> error{};

  bool has_ended() const { return ended.has_value(); }
  /// The result of an explanation with one target that has ended.
  /// @throws the error with which it failed.
  const Result& result() const;
};

}  // namespace lstm_explain

// SPDX-License-Identifier: Apache-2.0

/// Compares answers with the expectations of a case. Every check throws Wrong, which states what was expected and what
/// came.
#pragma once

#include <stdexcept>

#include "build.hpp"

namespace conformance {

struct Wrong : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void check_result(const lx::Result& actual, const json& expected);
void check_error(const lx::Error& actual, const json& expected);
void check_detail(const lx::ModelDetail& actual, const json& expected);
void check_listed(const std::vector<lx::ModelSummary>& actual, const json& expected);

}  // namespace conformance

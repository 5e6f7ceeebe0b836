/// What has to come. Every check throws Wrong with what was expected and what came.
#pragma once

#include <stdexcept>

#include "build.hpp"

namespace conformance {

struct Wrong : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void check_result(const lx::Result& came, const json& wanted);
void check_error(const lx::Error& came, const json& wanted);
void check_detail(const lx::ModelDetail& came, const json& wanted);
void check_listed(const std::vector<lx::ModelSummary>& came, const json& wanted);

}  // namespace conformance

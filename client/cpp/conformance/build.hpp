// SPDX-License-Identifier: Apache-2.0

/// What a case asks.
#pragma once

#include <lstm_explain/client.hpp>
#include <nlohmann/json.hpp>

namespace conformance {

using nlohmann::json;
namespace lx = lstm_explain;

lx::Tensor build_tensor(const json& said);
lx::Tensors build_tensors(const json& said);
lx::Method build_method(const json& said);
lx::Target build_target(const json& said);
lx::Request build_request(const json& said, const std::string& id = {});

/// A method in the form that a case has it, with every parameter that is set.
json described(const lx::Method& method);

}  // namespace conformance

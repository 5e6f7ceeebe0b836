// SPDX-License-Identifier: Apache-2.0

#include "check.hpp"

#include <cmath>

namespace conformance {
namespace {

void check_same(const std::string& where, const json& actual, const json& expected) {
  if (actual != expected) throw Wrong(where + ": " + actual.dump() + " came, expected " + expected.dump());
}

json plain(const lx::Tensor& tensor) {
  if (tensor.dtype() == lx::DType::string) {
    const auto texts = tensor.values<std::string>();
    return std::vector<std::string>(texts.begin(), texts.end());
  }
  return tensor.to_doubles();
}

void check_numbers(const std::string& where, const std::vector<double>& actual, const json& expected) {
  const auto numbers = expected.at("data").get<std::vector<double>>();
  const double tolerance = expected.at("tolerance");
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (!(std::abs(actual[i] - numbers.at(i)) <= tolerance)) {
      throw Wrong(where + ": " + std::to_string(actual[i]) + " came at " + std::to_string(i) + ", expected " +
                  std::to_string(numbers[i]) + " within " + expected["tolerance"].dump());
    }
  }
}

void check_tensor(const std::string& where, const lx::Tensor& actual, const json& expected) {
  check_same(where + " (shape)", actual.shape(), expected.at("shape"));
  if (expected.at("dtype") != "float") check_same(where + " (dtype)", lx::name(actual.dtype()), expected["dtype"]);
  if (expected.contains("tolerance")) {
    check_numbers(where, actual.to_doubles(), expected);
  } else {
    check_same(where, plain(actual), plain(build_tensor(expected)));
  }
}

/// The shape [batch], of the type "float".
void check_batch(const std::string& where, const std::vector<double>& actual, const json& expected) {
  check_tensor(where, lx::Tensor({static_cast<std::int64_t>(actual.size())}, actual), expected);
}

void check_tensors(const std::string& where, const lx::Tensors& actual, const json& expected) {
  if (actual.size() != expected.size()) {
    throw Wrong(where + ": " + std::to_string(actual.size()) + " tensors came, expected " + std::to_string(expected.size()));
  }
  for (const auto& [name, tensor] : expected.items()) {
    const auto found = actual.find(name);
    if (found == actual.end()) throw Wrong(where + ": " + name + " did not come");
    check_tensor(where + "." + name, found->second, tensor);
  }
}

void check_groups(const lx::GroupRelevance& actual, const json& expected) {
  if (expected.contains("relevance")) check_tensors("groups.relevance", actual.relevance, expected["relevance"]);
  if (expected.contains("names")) check_tensors("groups.names", actual.names, expected["names"]);
  if (expected.contains("steps")) check_tensors("groups.steps", actual.steps, expected["steps"]);
  if (expected.contains("standard_error"))
    check_tensors("groups.standard_error", actual.standard_error, expected["standard_error"]);
}

void check_ledger(const lx::Result& actual, const json& expected) {
  const lx::Ledger& ledger = actual.ledger;
  if (expected.contains("inputs")) check_batch("ledger.inputs", ledger.inputs, expected["inputs"]);
  if (expected.contains("initial_states"))
    check_batch("ledger.initial_states", ledger.initial_states, expected["initial_states"]);
  if (expected.contains("absorbed")) check_batch("ledger.absorbed", ledger.absorbed, expected["absorbed"]);
  if (!expected.contains("balance")) return;
  for (std::size_t i = 0; i < actual.explained.size(); ++i) {
    const double missing = actual.explained[i] - ledger.inputs.at(i) - ledger.initial_states.at(i) -
                           ledger.absorbed.at(i) - ledger.residual.at(i);
    if (!(std::abs(missing) <= expected["balance"].get<double>())) {
      throw Wrong("ledger: " + std::to_string(missing) + " is missing, allowed " + expected["balance"].dump());
    }
  }
}

void check_warnings(const std::vector<std::string>& actual, const std::vector<std::string>& beginnings) {
  bool same = actual.size() == beginnings.size();
  for (std::size_t i = 0; same && i < actual.size(); ++i) same = actual[i].rfind(beginnings[i], 0) == 0;
  if (!same) throw Wrong("the warnings " + json(actual).dump() + " came, expected " + json(beginnings).dump());
}

json plain(const std::vector<lx::FeatureGroup>& groups) {
  json out = json::array();
  for (const auto& group : groups) {
    out.push_back({{"name", group.name}, {"input", group.input}, {"features", group.features}});
  }
  return out;
}

json plain(const std::map<std::string, lx::TensorSpec>& specs) {
  json out = json::object();
  for (const auto& [name, spec] : specs) {
    json shape = json::array();
    for (const lx::Dimension& axis : spec.shape) std::visit([&](const auto& extent) { shape.push_back(extent); }, axis);
    out[name] = {{"dtype", lx::name(spec.dtype)}, {"shape", shape}};
  }
  return out;
}

void check_method(const std::optional<lx::Method>& actual, const json& said) {
  const json expected = described(build_method(said));
  const json held = actual ? described(*actual) : json{{"name", nullptr}, {"parameters", json::object()}};
  check_same("default_method", held["name"], expected["name"]);
  const json named = said.value("parameters", json::object());
  for (const auto& [parameter, value] : named.items()) {
    check_same("default_method." + parameter, held["parameters"][parameter], expected["parameters"][parameter]);
  }
}

}  // namespace

void check_result(const lx::Result& actual, const json& expected) {
  if (expected.contains("model")) check_same("model", actual.model, expected["model"]);
  if (expected.contains("version")) check_same("version", actual.version, expected["version"]);
  if (expected.contains("relevance")) check_tensors("relevance", actual.relevance, expected["relevance"]);
  if (expected.contains("outputs")) check_tensors("outputs", actual.outputs, expected["outputs"]);
  if (expected.contains("captured")) check_tensors("captured", actual.captured, expected["captured"]);
  if (expected.contains("tokens")) check_tensors("tokens", actual.tokens, expected["tokens"]);
  if (expected.contains("groups")) check_groups(actual.groups, expected["groups"]);
  if (expected.contains("warnings")) check_warnings(actual.warnings, expected["warnings"]);
  if (expected.contains("explained_quantity"))
    check_same("explained_quantity", actual.explained_quantity, expected["explained_quantity"]);
  if (expected.contains("not_explained")) check_same("not_explained", actual.not_explained, expected["not_explained"]);
  if (expected.contains("receipt")) {
    const auto part = expected.at("receipt").get<std::string>();
    if (actual.receipt.empty() != part.empty() || actual.receipt.find(part) == std::string::npos)
      throw Wrong("the receipt \"" + actual.receipt + "\" came, expected " + part);
  }
  if (expected.contains("explained")) check_batch("explained", actual.explained, expected["explained"]);
  if (expected.contains("ledger")) check_ledger(actual, expected["ledger"]);
}

void check_error(const lx::Error& actual, const json& expected) {
  const std::string message = " (" + actual.message() + ")";
  if (expected.at("code") != lx::name(actual.code())) {
    throw Wrong(lx::name(actual.code()) + message + " came, expected " + expected["code"].dump());
  }
  if (expected.contains("field") && expected["field"] != actual.field()) {
    throw Wrong("the field \"" + actual.field() + "\"" + message + " came, expected " + expected["field"].dump());
  }
  const auto word = expected.value("word", "");
  if (actual.message().find(word) == std::string::npos) throw Wrong("the message" + message + " lacks " + word);
}

void check_detail(const lx::ModelDetail& actual, const json& expected) {
  const json held = {
      {"name", actual.name},
      {"version", actual.version},
      {"state", lx::name(actual.state)},
      {"description", actual.description},
      {"lrp_supported", actual.lrp_supported},
      {"inputs", plain(actual.inputs)},
      {"outputs", plain(actual.outputs)},
      {"class_names", actual.class_names},
      {"text_inputs", actual.text_inputs},
      {"batch_axes", actual.batch_axes},
      {"time_axes", actual.time_axes},
      {"guessed_axes", actual.guessed_axes},
      {"background_samples", actual.background_samples},
      {"examples", actual.examples},
      {"feature_groups", plain(actual.feature_groups)},
  };
  for (const auto& [key, value] : expected.items()) {
    if (key == "default_method") {
      check_method(actual.default_method, value);
    } else {
      check_same(key, held.at(key), value);
    }
  }
}

void check_listed(const std::vector<lx::ModelSummary>& actual, const json& expected) {
  json listed = json::array();
  for (const auto& model : actual) {
    listed.push_back({{"name", model.name}, {"version", model.version}, {"state", lx::name(model.state)}});
  }
  for (const json& model : expected) {
    if (std::find(listed.begin(), listed.end(), model) == listed.end()) {
      throw Wrong(model.dump() + " is not among " + listed.dump());
    }
  }
}

}  // namespace conformance

#include "check.hpp"

#include <cmath>

namespace conformance {
namespace {

void check_same(const std::string& where, const json& came, const json& wanted) {
  if (came != wanted) throw Wrong(where + ": " + came.dump() + " came, wanted " + wanted.dump());
}

json plain(const lx::Tensor& tensor) {
  if (tensor.dtype() == lx::DType::string) {
    const auto texts = tensor.values<std::string>();
    return std::vector<std::string>(texts.begin(), texts.end());
  }
  return tensor.to_doubles();
}

void check_numbers(const std::string& where, const std::vector<double>& came, const json& wanted) {
  const auto numbers = wanted.at("data").get<std::vector<double>>();
  const double tolerance = wanted.at("tolerance");
  for (std::size_t i = 0; i < came.size(); ++i) {
    if (!(std::abs(came[i] - numbers.at(i)) <= tolerance)) {
      throw Wrong(where + ": " + std::to_string(came[i]) + " came at " + std::to_string(i) + ", wanted " +
                  std::to_string(numbers[i]) + " within " + wanted["tolerance"].dump());
    }
  }
}

void check_tensor(const std::string& where, const lx::Tensor& came, const json& wanted) {
  check_same(where + " (shape)", came.shape(), wanted.at("shape"));
  if (wanted.at("dtype") != "float") check_same(where + " (dtype)", lx::name(came.dtype()), wanted["dtype"]);
  if (wanted.contains("tolerance")) {
    check_numbers(where, came.to_doubles(), wanted);
  } else {
    check_same(where, plain(came), plain(build_tensor(wanted)));
  }
}

/// The shape [batch], of the type "float".
void check_batch(const std::string& where, const std::vector<double>& came, const json& wanted) {
  check_tensor(where, lx::Tensor({static_cast<std::int64_t>(came.size())}, came), wanted);
}

void check_tensors(const std::string& where, const lx::Tensors& came, const json& wanted) {
  if (came.size() != wanted.size()) {
    throw Wrong(where + ": " + std::to_string(came.size()) + " tensors came, wanted " + std::to_string(wanted.size()));
  }
  for (const auto& [name, tensor] : wanted.items()) {
    const auto found = came.find(name);
    if (found == came.end()) throw Wrong(where + ": " + name + " did not come");
    check_tensor(where + "." + name, found->second, tensor);
  }
}

void check_ledger(const lx::Result& came, const json& wanted) {
  const lx::Ledger& ledger = came.ledger;
  if (wanted.contains("inputs")) check_batch("ledger.inputs", ledger.inputs, wanted["inputs"]);
  if (wanted.contains("initial_states"))
    check_batch("ledger.initial_states", ledger.initial_states, wanted["initial_states"]);
  if (wanted.contains("absorbed")) check_batch("ledger.absorbed", ledger.absorbed, wanted["absorbed"]);
  if (!wanted.contains("balance")) return;
  for (std::size_t i = 0; i < came.explained.size(); ++i) {
    const double missing = came.explained[i] - ledger.inputs.at(i) - ledger.initial_states.at(i) -
                           ledger.absorbed.at(i) - ledger.residual.at(i);
    if (!(std::abs(missing) <= wanted["balance"].get<double>())) {
      throw Wrong("ledger: " + std::to_string(missing) + " is missing, allowed " + wanted["balance"].dump());
    }
  }
}

void check_warnings(const std::vector<std::string>& came, const std::vector<std::string>& beginnings) {
  bool same = came.size() == beginnings.size();
  for (std::size_t i = 0; same && i < came.size(); ++i) same = came[i].rfind(beginnings[i], 0) == 0;
  if (!same) throw Wrong("the warnings " + json(came).dump() + " came, wanted " + json(beginnings).dump());
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

void check_method(const std::optional<lx::Method>& came, const json& said) {
  const json wanted = described(build_method(said));
  const json held = came ? described(*came) : json{{"name", nullptr}, {"parameters", json::object()}};
  check_same("default_method", held["name"], wanted["name"]);
  const json named = said.value("parameters", json::object());
  for (const auto& [parameter, value] : named.items()) {
    check_same("default_method." + parameter, held["parameters"][parameter], wanted["parameters"][parameter]);
  }
}

}  // namespace

void check_result(const lx::Result& came, const json& wanted) {
  if (wanted.contains("model")) check_same("model", came.model, wanted["model"]);
  if (wanted.contains("version")) check_same("version", came.version, wanted["version"]);
  if (wanted.contains("relevance")) check_tensors("relevance", came.relevance, wanted["relevance"]);
  if (wanted.contains("outputs")) check_tensors("outputs", came.outputs, wanted["outputs"]);
  if (wanted.contains("captured")) check_tensors("captured", came.captured, wanted["captured"]);
  if (wanted.contains("tokens")) check_tensors("tokens", came.tokens, wanted["tokens"]);
  if (wanted.contains("warnings")) check_warnings(came.warnings, wanted["warnings"]);
  if (wanted.contains("explained_quantity"))
    check_same("explained_quantity", came.explained_quantity, wanted["explained_quantity"]);
  if (wanted.contains("explained")) check_batch("explained", came.explained, wanted["explained"]);
  if (wanted.contains("ledger")) check_ledger(came, wanted["ledger"]);
}

void check_error(const lx::Error& came, const json& wanted) {
  const std::string message = " (" + came.message() + ")";
  if (wanted.at("code") != lx::name(came.code())) {
    throw Wrong(lx::name(came.code()) + message + " came, wanted " + wanted["code"].dump());
  }
  if (wanted.contains("field") && wanted["field"] != came.field()) {
    throw Wrong("the field \"" + came.field() + "\"" + message + " came, wanted " + wanted["field"].dump());
  }
  const auto word = wanted.value("word", "");
  if (came.message().find(word) == std::string::npos) throw Wrong("the message" + message + " lacks " + word);
}

void check_detail(const lx::ModelDetail& came, const json& wanted) {
  const json held = {
      {"name", came.name},
      {"version", came.version},
      {"state", lx::name(came.state)},
      {"description", came.description},
      {"lrp_supported", came.lrp_supported},
      {"inputs", plain(came.inputs)},
      {"outputs", plain(came.outputs)},
      {"class_names", came.class_names},
      {"text_inputs", came.text_inputs},
      {"batch_axes", came.batch_axes},
      {"time_axes", came.time_axes},
      {"guessed_axes", came.guessed_axes},
      {"background_samples", came.background_samples},
  };
  for (const auto& [key, value] : wanted.items()) {
    if (key == "default_method") {
      check_method(came.default_method, value);
    } else {
      check_same(key, held.at(key), value);
    }
  }
}

void check_listed(const std::vector<lx::ModelSummary>& came, const json& wanted) {
  json listed = json::array();
  for (const auto& model : came) {
    listed.push_back({{"name", model.name}, {"version", model.version}, {"state", lx::name(model.state)}});
  }
  for (const json& model : wanted) {
    if (std::find(listed.begin(), listed.end(), model) == listed.end()) {
      throw Wrong(model.dump() + " is not among " + listed.dump());
    }
  }
}

}  // namespace conformance

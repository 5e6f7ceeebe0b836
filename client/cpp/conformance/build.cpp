// SPDX-License-Identifier: Apache-2.0

#include "build.hpp"

#include <stdexcept>

#include "method_fields.hpp"

namespace conformance {
namespace {

template <class T>
void read(const json& said, std::optional<T>& out) {
  if constexpr (std::is_enum_v<T>) {
    const auto& words = WORDS<T>;
    const auto place = std::find(words.begin(), words.end(), said.get<std::string>());
    if (place == words.end()) throw std::runtime_error("the choice " + said.dump());
    out = static_cast<T>(place - words.begin());
  } else {
    out = said.get<T>();
  }
}
void read(const json& said, lx::Tensors& out) { out = build_tensors(said); }

template <class T>
json write(const std::optional<T>& value) {
  if (!value) return nullptr;
  if constexpr (std::is_enum_v<T>) {
    return WORDS<T>.at(static_cast<std::size_t>(*value));
  } else {
    return *value;
  }
}
json write(const lx::Tensors& tensors) {
  json out = json::object();
  for (const auto& [name, tensor] : tensors)
    out[name] = {lx::name(tensor.dtype()), tensor.shape(), tensor.to_doubles()};
  return out;
}

template <class T>
lx::Tensor elements(const json& said) {
  return {said.at("shape").get<lx::Shape>(), said.at("data").get<std::vector<T>>()};
}

lx::TargetSet build_target_set(const json& said) {
  if (said.contains("target")) return build_target(said["target"]);
  if (!said.contains("every")) return {};
  const json& every = said["every"];
  lx::Every out;
  if (every.contains("axis")) out.axis = every["axis"].get<std::int32_t>();
  out.entries = every.value("entries", std::vector<std::int64_t>{});
  if (every.contains("target")) out.target = build_target(every["target"]);
  return out;
}

lx::Groups build_groups(const json& said) {
  lx::Groups out;
  out.window = said.value("window", 0);
  out.words = said.value("words", false);
  if (said.contains("change_points")) {
    const json& cuts = said["change_points"];
    out.change_points.emplace();
    if (cuts.contains("segments")) out.change_points->segments = cuts["segments"].get<std::int32_t>();
    if (cuts.contains("penalty")) out.change_points->penalty = cuts["penalty"].get<double>();
  }
  for (const json& group : said.value("features", json::array())) {
    out.features.push_back({group.at("name"), group.value("input", ""), group.at("features")});
  }
  return out;
}

}  // namespace

lx::Target build_target(const json& said) {
  lx::Target out;
  out.output = said.value("output", "");
  out.indices = said.value("indices", std::vector<std::int64_t>{});
  out.contrast = said.value("contrast_indices", std::vector<std::int64_t>{});
  if (said.contains("weights")) out.weights = build_tensor(said["weights"]);
  if (said.contains("batch_axis")) out.batch_axis = said["batch_axis"].get<std::int32_t>();
  out.no_batch_axis = said.value("no_batch_axis", false);
  if (said.contains("pre_activation")) out.pre_activation = said["pre_activation"].get<bool>();
  if (said.contains("measure")) {
    static const std::vector<std::string> kinds = {"mean_squared_error", "mean_absolute_error", "l1_norm",
                                                   "l2_norm",            "log_probability",     "probability",
                                                   "path_score"};
    const json& measure = said["measure"];
    const auto place = std::find(kinds.begin(), kinds.end(), measure.at("kind").get<std::string>());
    if (place == kinds.end()) throw std::runtime_error("the measure " + measure.dump());
    out.measure.emplace();
    out.measure->kind = static_cast<lx::MeasureKind>(place - kinds.begin() + 1);
    out.measure->input = measure.value("input", "");
    if (measure.contains("tensor")) out.measure->tensor = build_tensor(measure["tensor"]);
    out.measure->ahead = measure.value("ahead", 0);
    if (measure.contains("blank")) out.measure->blank = measure["blank"].get<std::int32_t>();
  }
  return out;
}

lx::Tensor build_tensor(const json& said) {
  const auto dtype = said.at("dtype").get<std::string>();
  if (dtype == "float32") return elements<float>(said);
  if (dtype == "float64") return elements<double>(said);
  if (dtype == "int32") return elements<std::int32_t>(said);
  if (dtype == "int64") return elements<std::int64_t>(said);
  if (dtype == "bool") return elements<bool>(said);
  if (dtype == "string") return elements<std::string>(said);
  if (dtype == "float16") {  // of no case do the values matter
    return {said.at("shape").get<lx::Shape>(), std::vector<lx::Half>(said.at("data").size())};
  }
  throw std::runtime_error("the dtype " + dtype);
}

lx::Tensors build_tensors(const json& said) {
  lx::Tensors out;
  for (const auto& [name, tensor] : said.items()) out.emplace(name, build_tensor(tensor));
  return out;
}

lx::Method build_method(const json& said) {
  const auto name = said.at("name").get<std::string>();
  for (const auto& [known, defaults] : METHODS) {
    if (known != name) continue;
    lx::Method out = defaults;
    json left = said.value("parameters", json::object());
    const auto take = [&](const char* parameter, auto& field) {
      if (left.contains(parameter)) read(left[parameter], field);
      left.erase(parameter);
    };
    std::visit([&](auto& method) { fields(method, take); }, out);
    if (!left.empty()) throw std::runtime_error(name + " has no parameters " + left.dump());
    return out;
  }
  throw std::runtime_error("the method " + name);
}

json described(const lx::Method& method) {
  json parameters = json::object();
  lx::Method copy = method;
  const auto note = [&](const char* parameter, auto& field) { parameters[parameter] = write(field); };
  std::visit([&](auto& held) { fields(held, note); }, copy);
  return {{"name", METHODS.at(method.index()).first}, {"parameters", parameters}};
}

lx::Request build_request(const json& said, const std::string& id) {
  lx::Request out;
  out.model = said.value("model", "");
  out.version = said.value("version", "");
  out.inputs = build_tensors(said.value("inputs", json::object()));
  if (said.contains("method")) out.method = build_method(said["method"]);
  if (said.contains("target")) out.target = build_target(said["target"]);
  for (const json& targets : said.value("targets", json::array())) out.targets.push_back(build_target_set(targets));
  out.capture = said.value("capture", std::vector<std::string>{});
  out.receipt = said.value("receipt", false);
  out.condition = said.value("condition", "");
  out.through = said.value("through", std::map<std::string, std::vector<std::int64_t>>{});
  if (said.contains("groups")) out.groups = build_groups(said["groups"]);
  out.id = id;
  return out;
}

}  // namespace conformance

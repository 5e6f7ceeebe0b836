#include "wire.hpp"

#include "status.hpp"

namespace lstm_explain::wire {
namespace {

std::vector<double> numbers(const v1::Tensor& message) {
  if (&message == &v1::Tensor::default_instance()) return {};  // the field is not set
  const Tensor tensor = decode(message);
  if (tensor.dtype() == DType::string) malformed("text came where numbers were expected");
  return tensor.to_doubles();
}

Ledger decode_ledger(const v1::Ledger& message) {
  Ledger out;
  out.inputs = numbers(message.inputs());
  out.initial_states = numbers(message.initial_states());
  out.absorbed = numbers(message.absorbed());
  out.residual = numbers(message.residual());
  for (const auto& share : message.by_node()) out.by_node.insert_or_assign(share.node(), numbers(share.absorbed()));
  return out;
}

std::map<std::string, TensorSpec> decode_specs(const google::protobuf::RepeatedPtrField<v1::TensorSpec>& messages) {
  std::map<std::string, TensorSpec> out;
  for (const auto& message : messages) {
    TensorSpec spec;
    spec.dtype = dtype_of(message.dtype());
    for (const auto& axis : message.shape()) {
      if (axis.dimension_case() == v1::Dimension::kSize) {
        spec.shape.emplace_back(axis.size());
      } else {
        spec.shape.emplace_back(axis.symbol());
      }
    }
    out.insert_or_assign(message.name(), std::move(spec));
  }
  return out;
}

Names decode_names(const google::protobuf::Map<std::string, v1::Names>& messages) {
  Names out;
  for (const auto& [name, message] : messages) out[name].assign(message.values().begin(), message.values().end());
  return out;
}

}  // namespace

void encode(const Target& target, v1::Target* out) {
  out->set_output(checked(target.output, "target.output"));
  out->mutable_indices()->Assign(target.indices.begin(), target.indices.end());
  out->mutable_contrast_indices()->Assign(target.contrast.begin(), target.contrast.end());
  if (target.weights) encode(*target.weights, "", out->mutable_weights());
  if (target.batch_axis) out->set_batch_axis(*target.batch_axis);
  out->set_no_batch_axis(target.no_batch_axis);
  if (target.pre_activation) out->set_pre_activation(*target.pre_activation);
}

Target decode(const v1::Target& message) {
  Target out;
  out.output = message.output();
  out.indices.assign(message.indices().begin(), message.indices().end());
  out.contrast.assign(message.contrast_indices().begin(), message.contrast_indices().end());
  if (message.has_weights()) out.weights = decode(message.weights());
  if (message.has_batch_axis()) out.batch_axis = message.batch_axis();
  out.no_batch_axis = message.no_batch_axis();
  if (message.has_pre_activation()) out.pre_activation = message.pre_activation();
  return out;
}

void encode(const Request& request, v1::ExplainRequest* out) {
  out->set_model(checked(request.model, "model"));
  out->set_version(checked(request.version, "version"));
  encode(request.inputs, "inputs", out->mutable_inputs());
  if (request.target) encode(*request.target, out->mutable_target());
  if (request.method) encode(*request.method, out->mutable_method());
  for (const std::string& name : request.capture) out->add_capture(checked(name, "capture"));
}

Result decode(const v1::ExplainResponse& message) {
  Result out;
  out.model = message.model();
  out.version = message.version();
  out.relevance = decode_all(message.relevance());
  out.outputs = decode_all(message.outputs());
  out.explained = numbers(message.explained());
  out.ledger = decode_ledger(message.ledger());
  out.captured = decode_all(message.captured());
  out.tokens = decode_all(message.tokens());
  out.standard_error = decode_all(message.standard_error());
  out.method = decode(message.method());
  if (message.has_target()) out.target = decode(message.target());
  out.warnings.assign(message.warnings().begin(), message.warnings().end());
  out.explained_quantity = message.explained_quantity();
  return out;
}

ModelSummary decode(const v1::ModelSummary& message) {
  return {message.name(), message.version(), static_cast<ModelState>(message.state()), message.reason(),
          message.description()};
}

ModelDetail decode(const v1::ModelDetail& message) {
  ModelDetail out;
  static_cast<ModelSummary&>(out) = decode(message.summary());
  out.inputs = decode_specs(message.inputs());
  out.outputs = decode_specs(message.outputs());
  out.lrp_supported = message.lrp_supported();
  for (const auto& node : message.nodes()) {
    out.nodes.push_back({node.name(), node.op_type(), node.supported(), node.rule()});
  }
  out.default_method = decode(message.default_method());
  if (message.has_default_target()) out.default_target = decode(message.default_target());
  out.class_names = decode_names(message.class_names());
  out.feature_names = decode_names(message.feature_names());
  out.text_inputs.assign(message.text_inputs().begin(), message.text_inputs().end());
  out.batch_axes.insert(message.batch_axes().begin(), message.batch_axes().end());
  out.time_axes.insert(message.time_axes().begin(), message.time_axes().end());
  out.guessed_axes.assign(message.guessed_axes().begin(), message.guessed_axes().end());
  out.units = decode_names(message.units());
  out.background_samples.insert(message.background_samples().begin(), message.background_samples().end());
  return out;
}

}  // namespace lstm_explain::wire

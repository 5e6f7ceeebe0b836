/// Between the client's types and the messages that travel.
#pragma once

#include <string>

#include "lstm_explain/explain.hpp"
#include "lstm_explain/models.hpp"
#include "lstm_explain/v1/explanation.pb.h"
#include "lstm_explain/v1/model.pb.h"

namespace lstm_explain::wire {

// What cannot travel throws InvalidRequest, what cannot be read MalformedResponse.

/// The text, if it is UTF-8: a message with any other would be refused without a word on where it lies.
const std::string& checked(const std::string& text, const std::string& field);

DType dtype_of(v1::DataType type);
void encode(const Tensor& tensor, const std::string& name, v1::Tensor* out);
Tensor decode(const v1::Tensor& message);

void encode(const Method& method, v1::Method* out);
/// None if no method is set, or if this client does not know it.
std::optional<Method> decode(const v1::Method& message);

void encode(const Target& target, v1::Target* out);
Target decode(const v1::Target& message);

void encode(const Request& request, v1::ExplainRequest* out);
Result decode(const v1::ExplainResponse& message);

ModelSummary decode(const v1::ModelSummary& message);
ModelDetail decode(const v1::ModelDetail& message);

/// In the order of their names, so that the same tensors are the same bytes.
template <class Repeated>
void encode(const Tensors& tensors, const std::string& field, Repeated* out) {
  for (const auto& [name, tensor] : tensors) encode(tensor, checked(name, field), out->Add());
}

template <class Repeated>
Tensors decode_all(const Repeated& messages) {
  Tensors out;
  for (const auto& message : messages) out.insert_or_assign(message.name(), decode(message));
  return out;
}

}  // namespace lstm_explain::wire

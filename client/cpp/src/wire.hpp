// SPDX-License-Identifier: Apache-2.0

/// Converts between the client's types and the messages of the protocol. The public types list their fields in their
/// own functions read and write; this file converts each kind of field.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "lstm_explain/explain.hpp"
#include "lstm_explain/models.hpp"
#include "lstm_explain/v1/explanation.pb.h"
#include "lstm_explain/v1/model.pb.h"

namespace lstm_explain::wire {

// Values that cannot be sent throw InvalidRequest, and messages that cannot be read throw MalformedResponse.

/// Returns the text if it is UTF-8. The server would refuse any other text without naming the field.
const std::string& checked(const std::string& text, const std::string& field);

DType dtype_of(v1::DataType type);
void encode(const Tensor& tensor, const std::string& name, v1::Tensor* out);
Tensor decode(const v1::Tensor& message);
/// Empty if the field is not set.
std::vector<double> decode_numbers(const v1::Tensor& message);

void encode(const Method& method, v1::Method* out);
/// Returns nothing if no method is set, or if this client does not know it.
std::optional<Method> decode(const v1::Method& message);

void encode(const TargetSet& targets, v1::TargetSet* out);
/// Returns a result per target of an answer to a request with several.
std::vector<Result> decode_each(const v1::ExplainResponse& message);

inline void encode(const std::string& text, const std::string& field, std::string* out) { *out = checked(text, field); }

inline void encode(const std::vector<std::string>& texts, const std::string& field,
                   google::protobuf::RepeatedPtrField<std::string>* out) {
  for (const std::string& text : texts) out->Add()->assign(checked(text, field));
}

template <class Number>
void encode(const std::vector<Number>& numbers, google::protobuf::RepeatedField<Number>* out) {
  out->Assign(numbers.begin(), numbers.end());
}

/// Adds the tensors in the order of their names, so that the same tensors are the same bytes.
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

/// Writes a field of a public type.
struct Writer {
  template <class... Arguments>
  void operator()(const Arguments&... arguments) const;
};

inline void encode(const Target& target, v1::Target* out) { target.write(out, Writer{}); }
inline void encode(const Every& every, v1::Every* out) { every.write(out, Writer{}); }
inline void encode(const Request& request, v1::ExplainRequest* out) { request.write(out, Writer{}); }

// Defined here, where all functions named encode are declared.
template <class... Arguments>
void Writer::operator()(const Arguments&... arguments) const {
  encode(arguments...);
}

/// Reads a field of a public type.
struct Reader {
  /// Reads a field that has the type of its message, or a type with its own function read.
  template <class Message, class Field>
  void operator()(const Message& message, Field& out) const {
    if constexpr (std::is_assignable_v<Field&, const Message&>) {
      out = message;
    } else {
      out.read(message, *this);
    }
  }

  void operator()(v1::DataType type, DType& out) const { out = dtype_of(type); }
  void operator()(const v1::Tensor& message, Tensor& out) const { out = decode(message); }
  void operator()(const v1::Tensor& message, std::vector<double>& out) const { out = decode_numbers(message); }
  void operator()(const google::protobuf::RepeatedPtrField<v1::Tensor>& messages, Tensors& out) const {
    out = decode_all(messages);
  }
  void operator()(const v1::Method& message, std::optional<Method>& out) const { out = decode(message); }
  void operator()(const v1::Names& message, std::vector<std::string>& out) const { (*this)(message.values(), out); }

  template <class Message, class Field>
  void operator()(const Message& message, std::optional<Field>& out) const {
    (*this)(message, out.emplace());
  }

  template <class Number>
  void operator()(const google::protobuf::RepeatedField<Number>& numbers, std::vector<Number>& out) const {
    out.assign(numbers.begin(), numbers.end());
  }

  template <class Message, class Field>
  void operator()(const google::protobuf::RepeatedPtrField<Message>& messages, std::vector<Field>& out) const {
    out.clear();
    for (const auto& message : messages) (*this)(message, out.emplace_back());
  }

  template <class Message, class Field>
  void operator()(const google::protobuf::Map<std::string, Message>& messages,
                  std::map<std::string, Field>& out) const {
    for (const auto& [name, message] : messages) (*this)(message, out[name]);
  }
};

/// Returns a public type with the fields of its message.
template <class Type, class Message>
Type read(const Message& message) {
  Type out;
  out.read(message, Reader{});
  return out;
}

}  // namespace lstm_explain::wire

// SPDX-License-Identifier: Apache-2.0

#include <cstring>

#include "status.hpp"
#include "wire.hpp"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "The protocol sends numbers in little-endian order, and this client does not swap bytes."
#endif

namespace lstm_explain::wire {
namespace {

constexpr std::size_t LENGTH_BYTES = 4;

v1::DataType type_of(DType dtype) {
  switch (dtype) {
    case DType::float32: return v1::DATA_TYPE_FLOAT32;
    case DType::float64: return v1::DATA_TYPE_FLOAT64;
    case DType::float16: return v1::DATA_TYPE_FLOAT16;
    case DType::int32: return v1::DATA_TYPE_INT32;
    case DType::int64: return v1::DATA_TYPE_INT64;
    case DType::boolean: return v1::DATA_TYPE_BOOL;
    case DType::string: return v1::DATA_TYPE_STRING;
  }
  return v1::DATA_TYPE_UNSPECIFIED;
}

std::string packed(View<std::string> texts) {
  std::string out;
  for (const std::string& text : texts) {
    const auto length = static_cast<std::uint32_t>(text.size());
    out.append(reinterpret_cast<const char*>(&length), LENGTH_BYTES).append(text);
  }
  return out;
}

std::vector<std::string> unpacked(const std::string& data) {
  std::vector<std::string> out;
  for (std::size_t place = 0; place < data.size();) {
    std::uint32_t length = 0;
    if (data.size() - place >= LENGTH_BYTES) std::memcpy(&length, &data[place], LENGTH_BYTES);
    if (data.size() - place < LENGTH_BYTES + length) malformed("damaged text in a tensor");
    out.push_back(data.substr(place + LENGTH_BYTES, length));
    place += LENGTH_BYTES + length;
  }
  return out;
}

}  // namespace

DType dtype_of(v1::DataType type) {
  switch (type) {
    case v1::DATA_TYPE_FLOAT32: return DType::float32;
    case v1::DATA_TYPE_FLOAT64: return DType::float64;
    case v1::DATA_TYPE_FLOAT16: return DType::float16;
    case v1::DATA_TYPE_INT32: return DType::int32;
    case v1::DATA_TYPE_INT64: return DType::int64;
    case v1::DATA_TYPE_BOOL: return DType::boolean;
    case v1::DATA_TYPE_STRING: return DType::string;
    default: malformed("a tensor of the unknown type " + std::to_string(type));
  }
}

const std::string& checked(const std::string& text, const std::string& field) {
  const auto* byte = reinterpret_cast<const unsigned char*>(text.data());
  const auto* const end = byte + text.size();
  while (byte < end) {
    const unsigned char head = *byte++;
    const int more = head < 0x80 ? 0 : head >> 5 == 6 ? 1 : head >> 4 == 14 ? 2 : head >> 3 == 30 ? 3 : -1;
    if (more < 0 || end - byte < more) refuse(field, "is not UTF-8");
    for (int i = 0; i < more; ++i) {
      if (*byte++ >> 6 != 2) refuse(field, "is not UTF-8");
    }
  }
  return text;
}

void encode(const Tensor& tensor, const std::string& name, v1::Tensor* out) {
  out->set_name(name);
  out->set_dtype(type_of(tensor.dtype()));
  out->mutable_shape()->Assign(tensor.shape().begin(), tensor.shape().end());
  if (tensor.dtype() == DType::string) {
    out->set_data(packed(tensor.values<std::string>()));
  } else {
    out->set_data(tensor.bytes().data(), tensor.bytes().size());
  }
}

Tensor decode(const v1::Tensor& message) {
  const Shape shape(message.shape().begin(), message.shape().end());
  const std::string& data = message.data();
  try {
    const DType dtype = dtype_of(message.dtype());
    if (dtype == DType::string) return {shape, unpacked(data)};
    return Tensor::from_bytes(shape, dtype, {reinterpret_cast<const std::byte*>(data.data()), data.size()});
  } catch (const Error& error) {
    malformed("tensor \"" + message.name() + "\": " + error.message());
  }
}

std::vector<double> decode_numbers(const v1::Tensor& message) {
  if (&message == &v1::Tensor::default_instance()) return {};
  const Tensor tensor = decode(message);
  if (tensor.dtype() == DType::string) malformed("text came where numbers were expected");
  return tensor.to_doubles();
}

}  // namespace lstm_explain::wire

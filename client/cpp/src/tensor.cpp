// SPDX-License-Identifier: Apache-2.0

#include "lstm_explain/tensor.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <sstream>
#include <stdexcept>

#include "lstm_explain/error.hpp"

namespace lstm_explain {
namespace {

[[noreturn]] void refuse(const std::string& message) {
  throw InvalidRequest(Failure{StatusCode::invalid_argument, message});
}

std::string written(const Shape& shape) {
  std::ostringstream out;
  out << '[';
  for (std::size_t axis = 0; axis < shape.size(); ++axis) out << (axis ? ", " : "") << shape[axis];
  out << ']';
  return out.str();
}

std::size_t count(const Shape& shape) {
  std::size_t product = 1;
  for (const std::int64_t extent : shape) {
    if (extent < 0) refuse("the shape " + written(shape) + " has a negative extent");
    if (extent != 0 && product > std::numeric_limits<std::size_t>::max() / 8 / static_cast<std::size_t>(extent)) {
      refuse("the shape " + written(shape) + " is larger than memory");
    }
    product *= static_cast<std::size_t>(extent);
  }
  return product;
}

std::size_t width(DType dtype) {
  switch (dtype) {
    case DType::boolean: return 1;
    case DType::float16: return 2;
    case DType::float32:
    case DType::int32: return 4;
    case DType::float64:
    case DType::int64: return 8;
    case DType::string: return 0;
  }
  return 0;
}

template <class T>
std::vector<double> doubles(View<T> values) {
  std::vector<double> out;
  out.reserve(values.size());
  for (const T& value : values) out.push_back(static_cast<double>(value));
  return out;
}

}  // namespace

static_assert(sizeof(bool) == 1 && sizeof(Half) == 2, "elements are kept as they travel");

Half::operator double() const {
  const int exponent = bits >> 10 & 0x1f;
  const double fraction = bits & 0x3ff;
  double magnitude = std::ldexp(1024.0 + fraction, exponent - 25);
  if (exponent == 0) magnitude = std::ldexp(fraction, -24);
  if (exponent == 0x1f) {
    magnitude = fraction == 0.0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  }
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

const char* name(DType dtype) {
  switch (dtype) {
    case DType::float32: return "float32";
    case DType::float64: return "float64";
    case DType::float16: return "float16";
    case DType::int32: return "int32";
    case DType::int64: return "int64";
    case DType::boolean: return "bool";
    case DType::string: return "string";
  }
  return "unknown";
}

Tensor::Tensor(Shape shape, DType dtype, const void* elements, std::size_t received)
    : dtype_(dtype), shape_(std::move(shape)) {
  if (const std::size_t expected = count(shape_); received != expected) {
    refuse("a tensor of shape " + written(shape_) + " has " + std::to_string(expected) + " elements, " +
           std::to_string(received) + " came");
  }
  if (dtype == DType::string) {
    const auto* texts = static_cast<const std::string*>(elements);
    texts_.assign(texts, texts + received);
  } else if (received != 0) {
    const auto* bytes = static_cast<const std::byte*>(elements);
    bytes_.assign(bytes, bytes + received * width(dtype));
  }
}

Tensor::Tensor(Shape shape, const std::vector<bool>& values)
    : Tensor(std::move(shape), DType::boolean, std::vector<std::uint8_t>(values.begin(), values.end()).data(),
             values.size()) {}

Tensor Tensor::from_bytes(Shape shape, DType dtype, View<std::byte> bytes) {
  if (dtype == DType::string) refuse("text has no bytes of a fixed width");
  const std::size_t expected = count(shape) * width(dtype);
  if (bytes.size() != expected) {
    refuse("a tensor of shape " + written(shape) + " and type " + name(dtype) + " has " + std::to_string(expected) +
           " bytes, " + std::to_string(bytes.size()) + " came");
  }
  Tensor out(std::move(shape), dtype, bytes.data(), bytes.size() / width(dtype));
  if (dtype == DType::boolean) {
    for (std::byte& truth : out.bytes_) truth = std::byte{truth != std::byte{0}};  // no other byte is a bool
  }
  return out;
}

std::size_t Tensor::size() const { return dtype_ == DType::string ? texts_.size() : bytes_.size() / width(dtype_); }

const void* Tensor::elements(DType expected) const {
  if (expected != dtype_) {
    throw std::logic_error(std::string("elements of type ") + name(dtype_) + " were asked for as " + name(expected));
  }
  if (dtype_ == DType::string) return texts_.data();
  return bytes_.data();
}

std::vector<double> Tensor::to_doubles() const {
  switch (dtype_) {
    case DType::float32: return doubles(values<float>());
    case DType::float64: return doubles(values<double>());
    case DType::float16: return doubles(values<Half>());
    case DType::int32: return doubles(values<std::int32_t>());
    case DType::int64: return doubles(values<std::int64_t>());
    case DType::boolean: return doubles(values<bool>());
    case DType::string: break;
  }
  throw std::logic_error("text was asked for as numbers");
}

}  // namespace lstm_explain

// SPDX-License-Identifier: Apache-2.0

/// @file
/// Dense arrays, in and out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <map>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace lstm_explain {

/// The bits of an IEEE 754 binary16 number, because C++17 has no such type.
struct Half {
  std::uint16_t bits = 0;
  explicit operator double() const;
};

/// The type of a tensor's elements.
enum class DType { float32, float64, float16, int32, int64, boolean, string };

/// NumPy's name for it, or "string".
const char* name(DType dtype);

namespace detail {
template <class T>
struct DTypeOf {};
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::float32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::float64;
};
template <>
struct DTypeOf<Half> {
  static constexpr DType value = DType::float16;
};
template <>
struct DTypeOf<std::int32_t> {
  static constexpr DType value = DType::int32;
};
template <>
struct DTypeOf<std::int64_t> {
  static constexpr DType value = DType::int64;
};
template <>
struct DTypeOf<bool> {
  static constexpr DType value = DType::boolean;
};
template <>
struct DTypeOf<std::string> {
  static constexpr DType value = DType::string;
};

template <class Range>
using ElementOf = std::remove_cv_t<std::remove_pointer_t<decltype(std::data(std::declval<const Range&>()))>>;
}  // namespace detail

/// The elements of a tensor that lives elsewhere, as std::span of C++20 is (and which it converts to).
template <class T>
class View {
 public:
  View(const T* data, std::size_t size) : data_(data), size_(size) {}
  const T* data() const { return data_; }
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }
  const T& operator[](std::size_t i) const { return data_[i]; }

 private:
  const T* data_;
  std::size_t size_;
};

/// The size of each axis, outermost first; empty for a scalar.
using Shape = std::vector<std::int64_t>;

/// A dense array: a shape, and the elements in row-major order. It owns them.
class Tensor {
 public:
  /// A scalar 0 of float32.
  Tensor() : Tensor({}, {0.0F}) {}

  /// Copies the elements of a range that lies in one piece (std::vector, std::array, std::span, View, …), whose
  /// elements are float, double, Half, std::int32_t, std::int64_t, bool or std::string.
  /// @throws InvalidRequest if their number is not the product of the sizes.
  template <class Range, class T = detail::ElementOf<Range>, DType type = detail::DTypeOf<T>::value>
  Tensor(Shape shape, const Range& values) : Tensor(std::move(shape), type, std::data(values), std::size(values)) {}

  template <class T, DType type = detail::DTypeOf<T>::value>
  Tensor(Shape shape, std::initializer_list<T> values)
      : Tensor(std::move(shape), type, std::data(values), values.size()) {}

  /// std::vector<bool> does not lie in one piece.
  Tensor(Shape shape, const std::vector<bool>& values);

  /// A batch of one text, for a model with a tokenizer.
  Tensor(std::string text) : Tensor({1}, {std::move(text)}) {}  // NOLINT: as one writes it
  Tensor(const char* text) : Tensor(std::string(text)) {}       // NOLINT

  /// A batch of texts.
  static Tensor texts(const std::vector<std::string>& texts) {
    return Tensor({static_cast<std::int64_t>(texts.size())}, texts);
  }

  /// Copies numbers that lie row-major in memory.
  /// @throws InvalidRequest where they are not as many bytes as the shape takes, or the type is string.
  static Tensor from_bytes(Shape shape, DType dtype, View<std::byte> bytes);

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  /// How many elements there are.
  std::size_t size() const;

  /// The elements in row-major order; valid as long as the tensor exists.
  /// @throws std::logic_error if they are not of type T.
  template <class T>
  View<T> values() const {
    return {static_cast<const T*>(elements(detail::DTypeOf<T>::value)), size()};
  }

  /// The elements of a tensor of numbers as they lie in memory; empty for text.
  View<std::byte> bytes() const { return {bytes_.data(), bytes_.size()}; }

  /// The elements as double, whatever numbers they are.
  /// @throws std::logic_error for text.
  std::vector<double> to_doubles() const;

  /// Type, shape and every element (numbers by their bytes) are the same.
  friend bool operator==(const Tensor& a, const Tensor& b) {
    return a.dtype_ == b.dtype_ && a.shape_ == b.shape_ && a.bytes_ == b.bytes_ && a.texts_ == b.texts_;
  }
  friend bool operator!=(const Tensor& a, const Tensor& b) { return !(a == b); }

 private:
  Tensor(Shape shape, DType dtype, const void* elements, std::size_t count);
  const void* elements(DType expected) const;

  DType dtype_ = DType::float32;
  Shape shape_;
  std::vector<std::byte> bytes_;  // of numbers; operator new aligns them for every element type
  std::vector<std::string> texts_;
};

/// Tensors by the name of the model's input, output or inner value.
using Tensors = std::map<std::string, Tensor>;

}  // namespace lstm_explain

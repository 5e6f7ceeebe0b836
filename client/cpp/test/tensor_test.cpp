// SPDX-License-Identifier: Apache-2.0

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

#include "lstm_explain/error.hpp"
#include "wire.hpp"

using namespace lstm_explain;

namespace {

v1::Tensor encoded(const Tensor& tensor) {
  v1::Tensor message;
  wire::encode(tensor, "x", &message);
  return message;
}

v1::Tensor message(v1::DataType type, std::initializer_list<std::int64_t> shape, const std::string& data) {
  v1::Tensor out;
  out.set_dtype(type);
  out.mutable_shape()->Assign(shape.begin(), shape.end());
  out.set_data(data);
  return out;
}

}  // namespace

TEST(Tensor, ComesBackAsItWas) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const Tensor& tensor : {
           Tensor({3}, {1.5F, -0.0F, infinity}),
           Tensor({2, 1}, {M_PI, 1e-300}),
           Tensor({2}, {Half{0x3c00}, Half{0xffff}}),
           Tensor({1, 2}, {std::numeric_limits<std::int32_t>::min(), 7}),
           Tensor({2}, {std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max()}),
           Tensor({3}, {true, false, true}),
           Tensor::texts({"", "façade", "很好"}),
           Tensor({2, 0, 4}, std::vector<float>{}),
           Tensor({}, {3.0}),
       }) {
    EXPECT_EQ(wire::decode(encoded(tensor)), tensor) << name(tensor.dtype());
  }
}

TEST(Tensor, BytesAreLittleEndianAndRowMajor) {
  EXPECT_EQ(encoded(Tensor({1, 2}, {1, -2})).data(), std::string("\1\0\0\0\xfe\xff\xff\xff", 8));
  EXPECT_EQ(encoded("é").data(), std::string("\2\0\0\0\xc3\xa9", 6));
}

TEST(Tensor, TakesWhatLiesInOnePiece) {
  const std::array<double, 2> array = {1, 2};
  const double plain[] = {1, 2};
  const Tensor expected({2}, std::vector<double>{1, 2});
  EXPECT_EQ(Tensor({2}, array), expected);
  EXPECT_EQ(Tensor({2}, plain), expected);
  EXPECT_EQ(Tensor({2}, View<double>(plain, 2)), expected);
  EXPECT_EQ(Tensor({2}, std::vector<bool>{true, false}), Tensor({2}, {true, false}));
  EXPECT_EQ(Tensor("one"), Tensor({1}, std::vector<std::string>{"one"}));
}

TEST(Tensor, HandsOutItsElements) {
  const Tensor tensor({2, 2}, {1.0F, 2.0F, 3.0F, 4.0F});
  const auto values = tensor.values<float>();
  EXPECT_EQ(std::vector<float>(values.begin(), values.end()), (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(tensor.to_doubles(), (std::vector<double>{1, 2, 3, 4}));
  EXPECT_THROW(tensor.values<double>(), std::logic_error);
  EXPECT_THROW(Tensor("text").to_doubles(), std::logic_error);
}

TEST(Tensor, HalvesAreNumbers) {
  // From the table of examples in Wikipedia's article on binary16.
  const std::vector<std::pair<std::uint16_t, double>> examples = {{0x0000, 0.0},
                                                                  {0x0001, 5.960464477539063e-8},
                                                                  {0x03ff, 6.097555160522461e-5},
                                                                  {0x0400, 6.103515625e-5},
                                                                  {0x3555, 0.333251953125},
                                                                  {0xc000, -2.0},
                                                                  {0x7bff, 65504.0},
                                                                  {0x7c00, INFINITY}};
  for (const auto& [bits, number] : examples) EXPECT_EQ(static_cast<double>(Half{bits}), number) << bits;
  EXPECT_TRUE(std::isnan(static_cast<double>(Half{0x7e00})));
}

TEST(Tensor, RefusesWhatDoesNotFit) {
  EXPECT_THROW(Tensor({2, 2}, {1.0F, 2.0F, 3.0F}), InvalidRequest);
  EXPECT_THROW(Tensor({-1}, {1.0F}), InvalidRequest);
  EXPECT_THROW(Tensor({1LL << 62, 4}, std::vector<float>{}), InvalidRequest);
  EXPECT_THROW(Tensor::from_bytes({1}, DType::string, {nullptr, 0}), InvalidRequest);
}

TEST(Tensor, TellsOfDamagedAnswers) {
  for (const auto& damaged : {
           message(v1::DATA_TYPE_FLOAT32, {2}, std::string(7, 'a')),
           message(v1::DATA_TYPE_FLOAT32, {-2}, ""),
           message(v1::DATA_TYPE_UNSPECIFIED, {1}, "a"),
           message(v1::DATA_TYPE_STRING, {1}, std::string("\x09\0\0\0a", 5)),
           message(v1::DATA_TYPE_STRING, {1}, "abc"),
           message(v1::DATA_TYPE_STRING, {2}, std::string("\1\0\0\0a", 5)),
       }) {
    EXPECT_THROW(wire::decode(damaged), MalformedResponse) << damaged.DebugString();
  }
}

TEST(Tensor, EveryTruthIsABool) {
  const Tensor tensor = wire::decode(message(v1::DATA_TYPE_BOOL, {2}, std::string("\0\x7f", 2)));
  EXPECT_EQ(tensor, Tensor({2}, {false, true}));
}

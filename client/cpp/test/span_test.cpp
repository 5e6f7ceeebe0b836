// SPDX-License-Identifier: Apache-2.0

// Compiled as C++20.
#include <gtest/gtest.h>

#include <numeric>
#include <span>

#include "lstm_explain/client.hpp"

#if defined(GOOGLE_PROTOBUF_VERSION) || defined(GRPCPP_CHANNEL_H)
#error "the client's headers bring those of protobuf or gRPC along"
#endif

using lstm_explain::Tensor;

TEST(Span, InAndOut) {
  const std::vector<float> numbers = {1, 2, 3};
  const Tensor tensor({2}, std::span(numbers).last(2));
  const std::span<const float> out = tensor.values<float>();
  EXPECT_EQ(std::accumulate(out.begin(), out.end(), 0.0F), 5.0F);
}

// SPDX-License-Identifier: Apache-2.0

#include "lstm_explain/error.hpp"

#include <gtest/gtest.h>

#include "status.hpp"

using namespace lstm_explain;

namespace {

/// A field of a message as it travels: number and length before the bytes.
std::string field(int number, const std::string& bytes) {
  return std::string{static_cast<char>(number << 3 | 2), static_cast<char>(bytes.size())} + bytes;
}

std::string status_detail(const std::string& type, const std::string& bytes) {
  return field(3, field(1, "type.googleapis.com/google.rpc." + type) + field(2, bytes));
}

Error error(grpc::StatusCode code, const std::string& message, const std::string& details = {}) {
  return error_of(grpc::Status(code, message, details));
}

}  // namespace

// The bytes are those of google/rpc/error_details.proto, written by hand.
TEST(Error, DetailsBecomeFields) {
  const std::string violation = field(1, "inputs[0].shape") + field(2, "too long");
  const Error bad = error(grpc::INVALID_ARGUMENT, "bad input", status_detail("BadRequest", field(1, violation)));
  EXPECT_EQ(bad.field(), "inputs[0].shape");
  EXPECT_STREQ(bad.what(), "bad input (inputs[0].shape)");
  EXPECT_THROW(bad.raise(), InvalidRequest);

  const std::string delay = {1 << 3,
                             2,
                             2 << 3,
                             static_cast<char>(0x80),
                             static_cast<char>(0xca),
                             static_cast<char>(0xb5),
                             static_cast<char>(0xee),
                             1};  // 2 s and 500,000,000 ns
  const Error full = error(grpc::RESOURCE_EXHAUSTED, "full", status_detail("RetryInfo", field(1, delay)));
  EXPECT_EQ(full.retry_after(), std::chrono::milliseconds(2500));
  EXPECT_THROW(full.raise(), Overloaded);

  const std::string node = field(3, field(1, "node") + field(2, "/rnn")),
                    op = field(3, field(1, "op") + field(2, "Foo"));
  const Error deaf = error(grpc::FAILED_PRECONDITION, "no rule", status_detail("ErrorInfo", node + op));
  EXPECT_EQ(deaf.node(), "/rnn");
  EXPECT_EQ(deaf.op(), "Foo");
  EXPECT_THROW(deaf.raise(), NotExplainable);
}

TEST(Error, DamagedDetailsAreLeftOut) {
  const Error bad = error(grpc::INVALID_ARGUMENT, "bad input", "\x1a\x7f");
  EXPECT_EQ(bad.message(), "bad input");
  EXPECT_EQ(bad.field(), "");
}

TEST(Error, ALimitIsNotAnOverload) {
  EXPECT_THROW(error(grpc::RESOURCE_EXHAUSTED, "Received message larger than max (5 vs. 4)").raise(), TooLarge);
}

TEST(Error, EveryCodeHasItsKind) {
  EXPECT_THROW(error(grpc::DEADLINE_EXCEEDED, "").raise(), DeadlineExceeded);
  EXPECT_THROW(error(grpc::CANCELLED, "").raise(), Cancelled);
  EXPECT_THROW(error(grpc::NOT_FOUND, "").raise(), ModelNotFound);
  EXPECT_THROW(error(grpc::ALREADY_EXISTS, "").raise(), AlreadyExists);
  EXPECT_THROW(error(grpc::UNAUTHENTICATED, "").raise(), Unauthenticated);
  EXPECT_THROW(error(grpc::PERMISSION_DENIED, "").raise(), PermissionDenied);
  EXPECT_THROW(error(grpc::UNAVAILABLE, "").raise(), Unavailable);
  EXPECT_THROW(error(grpc::UNIMPLEMENTED, "").raise(), Unimplemented);
  EXPECT_THROW(error(grpc::INTERNAL, "").raise(), ServerFault);
  EXPECT_EQ(status_code(99), StatusCode::unknown);
  EXPECT_STREQ(name(status_code(grpc::DATA_LOSS)), "DATA_LOSS");
}

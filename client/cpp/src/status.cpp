// SPDX-License-Identifier: Apache-2.0

#include "status.hpp"

#include "error_details.pb.h"

namespace lstm_explain {
namespace {

/// Reads the detail if it is of this type; packed by another name, it has another package.
template <class Message>
bool unpack(const google::protobuf::Any& detail, const std::string& name, Message& out) {
  const std::string& url = detail.type_url();
  return url.substr(url.rfind('/') + 1) == "google.rpc." + name && out.ParseFromString(detail.value());
}

void note(const google::protobuf::Any& detail, Failure& failure) {
  details::BadRequest bad;
  details::RetryInfo retry;
  details::ErrorInfo info;
  if (unpack(detail, "BadRequest", bad) && bad.field_violations_size() > 0) {
    failure.field = bad.field_violations(0).field();
  } else if (unpack(detail, "RetryInfo", retry)) {
    failure.retry_after =
        std::chrono::milliseconds(retry.retry_delay().seconds() * 1000 + retry.retry_delay().nanos() / 1'000'000);
  } else if (unpack(detail, "ErrorInfo", info)) {
    for (const auto& [key, value] : info.metadata()) {
      if (key == "node") failure.node = value;
      if (key == "op") failure.op = value;
    }
  }
}

}  // namespace

StatusCode status_code(int number) {
  const bool known = number >= 0 && number <= static_cast<int>(StatusCode::unauthenticated);
  return known ? static_cast<StatusCode>(number) : StatusCode::unknown;
}

Error error_of(const grpc::Status& status) {
  Failure failure;
  failure.code = status_code(status.error_code());
  failure.message = status.error_message();
  details::Status details;
  if (details.ParseFromString(status.error_details())) {
    for (const auto& detail : details.details()) note(detail, failure);
  }
  return Error(failure);
}

void check(const grpc::Status& status) {
  if (!status.ok()) error_of(status).raise();
}

void refuse(const std::string& field, const std::string& message) {
  Failure failure;
  failure.code = StatusCode::invalid_argument;
  failure.message = field + ": " + message;
  failure.field = field;
  throw InvalidRequest(failure);
}

void malformed(const std::string& message) {
  Failure failure;
  failure.code = StatusCode::data_loss;
  failure.message = message;
  throw MalformedResponse(failure);
}

}  // namespace lstm_explain

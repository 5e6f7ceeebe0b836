// SPDX-License-Identifier: Apache-2.0

#include "lstm_explain/error.hpp"

#include <array>

namespace lstm_explain {
namespace {

constexpr std::array names = {
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};

std::string sentence(const Failure& failure) {
  const bool reported = failure.message.find(failure.field) != std::string::npos;
  return reported ? failure.message : failure.message + " (" + failure.field + ")";
}

}  // namespace

const char* name(StatusCode code) {
  const auto number = static_cast<std::size_t>(code);
  return number < names.size() ? names[number] : "UNKNOWN";
}

Error::Error(Failure failure) : std::runtime_error(sentence(failure)), failure_(std::move(failure)) {}

void Error::raise() const {
  // gRPC uses the same code for an overload and for a message above the limit; only the message text differs.
  const bool too_large = message().find("larger than max") != std::string::npos;
  switch (code()) {
    case StatusCode::invalid_argument:
    case StatusCode::out_of_range: throw InvalidRequest(failure_);
    case StatusCode::not_found: throw ModelNotFound(failure_);
    case StatusCode::already_exists: throw AlreadyExists(failure_);
    case StatusCode::failed_precondition: throw NotExplainable(failure_);
    case StatusCode::resource_exhausted:
      if (too_large) throw TooLarge(failure_);
      throw Overloaded(failure_);
    case StatusCode::unauthenticated: throw Unauthenticated(failure_);
    case StatusCode::permission_denied: throw PermissionDenied(failure_);
    case StatusCode::deadline_exceeded: throw DeadlineExceeded(failure_);
    case StatusCode::cancelled: throw Cancelled(failure_);
    case StatusCode::unavailable: throw Unavailable(failure_);
    case StatusCode::unimplemented: throw Unimplemented(failure_);
    case StatusCode::data_loss: throw MalformedResponse(failure_);
    case StatusCode::ok:
    case StatusCode::unknown:
    case StatusCode::internal:
    case StatusCode::aborted: break;
  }
  throw ServerFault(failure_);
}

}  // namespace lstm_explain

// SPDX-License-Identifier: Apache-2.0

/// @file The errors of this client.
///
///     Error
///     ├── InvalidRequest        something in the request is wrong; field() says what
///     │   └── TooLarge          a message is larger than one side allows
///     ├── ModelNotFound         there is no such model or version
///     ├── AlreadyExists         the version that was to be imported is there
///     ├── NotExplainable        the method cannot pass through the model; node() and op() say where
///     ├── Overloaded            the server has too much to do; retry_after() says when to come back
///     ├── Unauthenticated       who is calling is not known
///     ├── PermissionDenied      who is calling may not do this
///     ├── DeadlineExceeded      the answer did not come in time
///     ├── Cancelled             the caller, or the server, cancelled the call
///     ├── Unavailable           the server cannot be reached, after every retry
///     ├── Unimplemented         the server does not know the call, or has it turned off
///     ├── MalformedResponse     the answer cannot be read
///     └── ServerFault           something went wrong inside the server
#pragma once

#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>

namespace lstm_explain {

/// The status codes of gRPC, by their numbers.
enum class StatusCode {
  ok = 0,
  cancelled = 1,
  unknown = 2,
  invalid_argument = 3,
  deadline_exceeded = 4,
  not_found = 5,
  already_exists = 6,
  permission_denied = 7,
  resource_exhausted = 8,
  failed_precondition = 9,
  aborted = 10,
  out_of_range = 11,
  unimplemented = 12,
  internal = 13,
  unavailable = 14,
  data_loss = 15,
  unauthenticated = 16,
};

/// gRPC's name of a code: "INVALID_ARGUMENT".
const char* name(StatusCode code);

/// The details of a failure.
struct Failure {
  StatusCode code = StatusCode::unknown;
  /// The message of the server or of this client.
  std::string message{};
  /// Path of the invalid field of the request, for example `inputs[0].shape`, or empty.
  std::string field{};
  /// The unsupported node and its operator, if that is the reason for the failure.
  std::string node{}, op{};
  /// The time after which an overloaded server asks for a retry.
  std::optional<std::chrono::milliseconds> retry_after{};
};

/// A call that failed, or a request that could not be built. The client always throws a subclass.
class Error : public std::runtime_error {
 public:
  /// what() is the message, and the field if the message does not name it.
  explicit Error(Failure failure);

  StatusCode code() const { return failure_.code; }
  const std::string& message() const { return failure_.message; }
  const std::string& field() const { return failure_.field; }
  const std::string& node() const { return failure_.node; }
  const std::string& op() const { return failure_.op; }
  std::optional<std::chrono::milliseconds> retry_after() const { return failure_.retry_after; }

  /// Throws this error as the subclass for its code.
  [[noreturn]] void raise() const;

 private:
  Failure failure_;
};

// clang-format off
class InvalidRequest : public Error { public: using Error::Error; };
class TooLarge : public InvalidRequest { public: using InvalidRequest::InvalidRequest; };
class ModelNotFound : public Error { public: using Error::Error; };
class AlreadyExists : public Error { public: using Error::Error; };
class NotExplainable : public Error { public: using Error::Error; };
class Overloaded : public Error { public: using Error::Error; };
class Unauthenticated : public Error { public: using Error::Error; };
class PermissionDenied : public Error { public: using Error::Error; };
class DeadlineExceeded : public Error { public: using Error::Error; };
class Cancelled : public Error { public: using Error::Error; };
class Unavailable : public Error { public: using Error::Error; };
class Unimplemented : public Error { public: using Error::Error; };
class MalformedResponse : public Error { public: using Error::Error; };
class ServerFault : public Error { public: using Error::Error; };
// clang-format on

}  // namespace lstm_explain

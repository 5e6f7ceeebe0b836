// SPDX-License-Identifier: Apache-2.0

/// From gRPC's status to an Error.
#pragma once

#include <grpcpp/support/status.h>

#include <string>

#include "lstm_explain/error.hpp"

namespace lstm_explain {

/// The code of a number that came over the wire.
StatusCode status_code(int number);

/// With what the details say of it.
Error error_of(const grpc::Status& status);

/// Throws where the status is not OK.
void check(const grpc::Status& status);

[[noreturn]] void refuse(const std::string& field, const std::string& message);
[[noreturn]] void malformed(const std::string& message);

}  // namespace lstm_explain

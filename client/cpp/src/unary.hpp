// SPDX-License-Identifier: Apache-2.0

/// Calls with one request and one answer.
#pragma once

#include "connection.hpp"
#include "status.hpp"

namespace lstm_explain {

/// One call of a stub; returns the answer or throws.
template <class Stub, class Asked, class Answered>
Answered unary(const Connection& connection, Stub& stub,
               grpc::Status (Stub::*method)(grpc::ClientContext*, const Asked&, Answered*), const Asked& asked,
               const CallOptions& options) {
  Call call(connection, options, connection.options.timeout);
  Answered answered;
  check((stub.*method)(&call.context, asked, &answered));
  return answered;
}

}  // namespace lstm_explain

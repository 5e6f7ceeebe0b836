// SPDX-License-Identifier: Apache-2.0

/// The channel with its stubs, and what goes with every call.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <memory>
#include <optional>
#include <string>

#include "lstm_explain/client.hpp"
#include "lstm_explain/v1/explanation.grpc.pb.h"
#include "lstm_explain/v1/model.grpc.pb.h"
#include "lstm_explain/v1/operation.grpc.pb.h"

namespace lstm_explain {

/// The retry policy that is published with the protos for all clients: which calls to retry, when, and for which codes.
extern const char* const SERVICE_CONFIG;

struct Connection {
  Connection(const std::string& address, ConnectOptions options);

  ConnectOptions options;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::ExplanationService::StubInterface> explanations;
  std::unique_ptr<v1::ModelService::StubInterface> models;
  std::unique_ptr<v1::OperationService::StubInterface> operations;
};

/// The context of one call: deadline, token, and an ear for the caller's cancellation.
class Call {
 public:
  Call(const Connection& connection, const CallOptions& options, std::optional<std::chrono::milliseconds> otherwise);
  grpc::ClientContext context;

 private:
  std::optional<CancellationToken::Reaction> reaction_;
};

}  // namespace lstm_explain

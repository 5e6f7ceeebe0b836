// SPDX-License-Identifier: Apache-2.0

#include "lstm_explain/operations.hpp"

#include <random>

#include "connection.hpp"
#include "lstm_explain/client.hpp"
#include "status.hpp"
#include "unary.hpp"
#include "wire.hpp"

namespace lstm_explain {
namespace {

using Calls = v1::OperationService::StubInterface;

constexpr std::chrono::milliseconds LONGEST_WAIT = std::chrono::seconds(20);  // of one call

Operation::Time moment(std::int64_t milliseconds) { return Operation::Time(std::chrono::milliseconds(milliseconds)); }

Operation decode(const v1::Operation& message) {
  Operation out;
  out.name = message.name();
  out.kind = static_cast<OperationKind>(message.kind());
  out.state = static_cast<OperationState>(message.state());
  out.model = message.model();
  out.version = message.version();
  out.done = message.progress().done();
  out.total = message.progress().total();
  out.attempts = message.attempts();
  out.created = moment(message.created_ms());
  if (message.ended_ms() > 0) {
    out.ended = moment(message.ended_ms());
    out.expires = moment(message.expires_ms());
  }
  if (message.has_error()) {
    Failure failure;
    failure.code = status_code(message.error().code());
    failure.message = message.error().message();
    failure.field = message.error().field();
    out.error = Error(failure);
  } else if (message.has_response() && message.response().targets_size() > 0) {
    out.results = wire::decode_each(message.response());
  } else if (message.has_response()) {
    out.results.push_back(wire::read<Result>(message.response()));
  } else if (message.has_batch()) {
    const auto& batch = message.batch();
    out.batch = BatchSummary{batch.rows(), batch.failed(), batch.warned(), batch.worst()};
  }
  return out;
}

std::string new_id() {
  std::random_device random;
  std::string out;
  for (int i = 0; i < 32; ++i) out += "0123456789abcdef"[random() % 16];
  return out;
}

template <class Message>
Message named(const std::string& name) {
  Message message;
  message.set_name(wire::checked(name, "name"));
  return message;
}

}  // namespace

const char* name(OperationState state) {
  switch (state) {
    case OperationState::pending: return "pending";
    case OperationState::running: return "running";
    case OperationState::succeeded: return "succeeded";
    case OperationState::failed: return "failed";
    case OperationState::cancelled: return "cancelled";
    case OperationState::unspecified: break;
  }
  return "unspecified";
}

const Result& Operation::result() const {
  if (error) error->raise();
  if (results.size() != 1) malformed("the operation has " + std::to_string(results.size()) + " results");
  return results.front();
}

Operation Client::start(const Request& request, const std::string& request_id, const CallOptions& options) const {
  v1::StartExplainRequest message;
  wire::encode(request, message.mutable_request());
  message.set_request_id(request_id.empty() ? new_id() : wire::checked(request_id, "request_id"));
  return decode(unary(*connection_, *connection_->operations, &Calls::StartExplain, message, options).operation());
}

Operation Client::operation(const std::string& name, const CallOptions& options) const {
  const auto message = named<v1::GetOperationRequest>(name);
  return decode(unary(*connection_, *connection_->operations, &Calls::GetOperation, message, options).operation());
}

std::vector<Operation> Client::operations(const CallOptions& options) const {
  const v1::ListOperationsRequest message;
  const auto received = unary(*connection_, *connection_->operations, &Calls::ListOperations, message, options);
  std::vector<Operation> out;
  for (const auto& operation : received.operations()) out.push_back(decode(operation));
  return out;
}

Operation Client::wait_for_operation(const std::string& name, std::optional<CancellationToken> cancellation) const {
  auto message = named<v1::WaitOperationRequest>(name);
  message.set_timeout_ms(static_cast<std::int32_t>(LONGEST_WAIT.count()));
  CallOptions options;
  options.timeout = 2 * LONGEST_WAIT;
  options.cancellation = std::move(cancellation);
  while (true) {
    const auto received = unary(*connection_, *connection_->operations, &Calls::WaitOperation, message, options);
    Operation operation = decode(received.operation());
    if (operation.has_ended()) return operation;
  }
}

void Client::cancel_operation(const std::string& name, const CallOptions& options) const {
  const auto message = named<v1::CancelOperationRequest>(name);
  unary(*connection_, *connection_->operations, &Calls::CancelOperation, message, options);
}

void Client::delete_operation(const std::string& name, const CallOptions& options) const {
  const auto message = named<v1::DeleteOperationRequest>(name);
  unary(*connection_, *connection_->operations, &Calls::DeleteOperation, message, options);
}

}  // namespace lstm_explain

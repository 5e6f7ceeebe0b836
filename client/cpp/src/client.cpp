// SPDX-License-Identifier: Apache-2.0

#include "lstm_explain/client.hpp"

#include "connection.hpp"
#include "status.hpp"
#include "unary.hpp"
#include "wire.hpp"

namespace lstm_explain {
namespace {

using Explanations = v1::ExplanationService::StubInterface;
using Models = v1::ModelService::StubInterface;

}  // namespace

Client::Client(const std::string& address, ConnectOptions options)
    : connection_(std::make_shared<const Connection>(address, std::move(options))) {}
Client::~Client() = default;
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;

Result Client::explain(const Request& request, const CallOptions& options) const {
  if (!request.targets.empty()) refuse("targets", "explain takes one target; use explain_many");
  v1::ExplainRequest message;
  wire::encode(request, &message);
  return wire::read<Result>(unary(*connection_, *connection_->explanations, &Explanations::Explain, message, options));
}

std::vector<Result> Client::explain_many(const Request& request, const CallOptions& options) const {
  if (request.targets.empty()) return {};
  v1::ExplainRequest message;
  wire::encode(request, &message);
  return wire::decode_each(unary(*connection_, *connection_->explanations, &Explanations::Explain, message, options));
}

std::vector<ModelSummary> Client::models(const CallOptions& options) const {
  std::vector<ModelSummary> out;
  const auto received = unary(*connection_, *connection_->models, &Models::ListModels, v1::ListModelsRequest(), options);
  for (const auto& message : received.models()) out.push_back(wire::read<ModelSummary>(message));
  return out;
}

ModelDetail Client::model(const std::string& name, const std::string& version, const CallOptions& options) const {
  v1::GetModelRequest message;
  message.set_name(wire::checked(name, "name"));
  message.set_version(wire::checked(version, "version"));
  return wire::read<ModelDetail>(unary(*connection_, *connection_->models, &Models::GetModel, message, options).model());
}

void Client::delete_model(const std::string& name, const std::string& version, const CallOptions& options) const {
  v1::DeleteModelRequest message;
  message.set_name(wire::checked(name, "name"));
  message.set_version(wire::checked(version, "version"));
  unary(*connection_, *connection_->models, &Models::DeleteModel, message, options);
}

ModelRoute Client::route_model(const std::string& name, const ModelRoute& route, const CallOptions& options) const {
  v1::RouteModelRequest message;
  message.set_name(wire::checked(name, "name"));
  message.set_default_version(wire::checked(route.default_version, "default_version"));
  message.set_canary_version(wire::checked(route.canary_version, "canary_version"));
  message.set_canary_share(route.canary_share);
  return wire::read<ModelRoute>(
      unary(*connection_, *connection_->models, &Models::RouteModel, message, options).route());
}

ModelRoute Client::roll_back_model(const std::string& name, const CallOptions& options) const {
  v1::RollBackModelRequest message;
  message.set_name(wire::checked(name, "name"));
  return wire::read<ModelRoute>(
      unary(*connection_, *connection_->models, &Models::RollBackModel, message, options).route());
}

}  // namespace lstm_explain

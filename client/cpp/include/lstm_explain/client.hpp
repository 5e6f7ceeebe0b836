// SPDX-License-Identifier: Apache-2.0

/// @file
/// The connection to a server, and the calls.
///
///     lstm_explain::Client client("127.0.0.1:50051");
///     lstm_explain::Request request;
///     request.model = "sentiment";
///     request.inputs["tokens"] = "not a bad film";
///     lstm_explain::Result result = client.explain(request);
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "lstm_explain/cancellation.hpp"
#include "lstm_explain/error.hpp"
#include "lstm_explain/explain.hpp"
#include "lstm_explain/models.hpp"
#include "lstm_explain/operations.hpp"
#include "lstm_explain/stream.hpp"

namespace lstm_explain {

/// Settings of an encrypted connection. Each part is the text of a PEM file; read_pem reads one.
struct Tls {
  /// The authorities that may sign the server's certificate. Default: those that gRPC trusts.
  std::string authority{};
  /// The certificate and key of the client, for mutual TLS.
  std::string certificate{}, key{};
  /// The name expected in the server's certificate, if it is not the host of the address.
  std::string server_name{};

  /// @throws InvalidRequest if a file cannot be read. An empty path omits that part.
  static Tls from_files(const std::string& authority, const std::string& certificate = {}, const std::string& key = {});
};

/// How a client connects.
struct ConnectOptions {
  /// Default: plain text.
  std::optional<Tls> tls{};
  /// A bearer token for every call. If the token changes, use token_source.
  std::string token{};
  /// Returns the bearer token of every call; runs in the thread of the caller.
  std::function<std::string()> token_source{};
  /// Allow a token over an unencrypted connection that leaves this machine.
  bool plaintext_token = false;
  /// Whether to retry read-only calls as the published service config specifies.
  bool retry = true;
  /// Size limit for one message in either direction.
  std::size_t max_message_bytes = 64U << 20U;
  /// The time limit of calls without a limit of their own, including retries. Streams and imports have no default
  /// limit.
  std::chrono::milliseconds timeout = std::chrono::minutes(1);
  /// Additional channel arguments of gRPC, which take precedence.
  std::map<std::string, std::variant<int, std::string>> channel_arguments{};
};

/// The time limit of one call, and its cancellation.
struct CallOptions {
  /// The server observes it too.
  std::optional<std::chrono::milliseconds> timeout{};
  std::optional<CancellationToken> cancellation{};
};

/// Calls an explanation server. Several threads can use it at the same time. Every call throws a subclass of Error when
/// it fails.
class Client {
 public:
  /// Connects to host:port. The client sends nothing before the first call.
  /// @throws InvalidRequest if a token would be sent unencrypted over the network.
  explicit Client(const std::string& address, ConnectOptions options = {});
  ~Client();
  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;

  /// Predicts one batch and explains the prediction.
  Result explain(const Request& request, const CallOptions& options = {}) const;

  /// Predicts one batch and explains it for request.targets in one request: a result per target, in their order.
  std::vector<Result> explain_many(const Request& request, const CallOptions& options = {}) const;

  /// Sends the requests that `next` returns over one stream, until it returns none; see AnswerStream.
  /// @param progress hears of long requests, in a thread of the stream; see ProgressReport.
  AnswerStream explain_stream(std::function<std::optional<Request>()> next, const CallOptions& options = {},
                              ProgressReport progress = {}) const;
  /// Does the same for existing requests.
  AnswerStream explain_stream(std::vector<Request> requests, const CallOptions& options = {},
                              ProgressReport progress = {}) const;

  /// Lists all models and versions, including those that failed to load.
  std::vector<ModelSummary> models(const CallOptions& options = {}) const;

  /// One model. An empty version selects the newest version that is ready.
  ModelDetail model(const std::string& name, const std::string& version = {}, const CallOptions& options = {}) const;

  /// Adds a version of a model. The server must allow imports.
  ModelDetail import_model(const Import& model, const CallOptions& options = {}) const;

  /// Removes a version, or all versions if the version is empty. The server must allow it.
  void delete_model(const std::string& name, const std::string& version = {}, const CallOptions& options = {}) const;

  /// Chooses which version of a model answers requests that name none, and a canary that gets a share of them. The
  /// server must allow it.
  ModelRoute route_model(const std::string& name, const ModelRoute& route, const CallOptions& options = {}) const;

  /// Ends the canary of a model or, if it has none, makes its previous default version the default again. The server
  /// must allow it.
  ModelRoute roll_back_model(const std::string& name, const CallOptions& options = {}) const;

  /// Starts an explanation that the server keeps as an operation, whether or not anybody waits for it; it may cost more
  /// than a call. The server must keep operations.
  /// @param request_id a call with the id of an earlier one returns the operation that it started, and is not charged
  /// again. Empty: a new id.
  Operation start(const Request& request, const std::string& request_id = {}, const CallOptions& options = {}) const;

  /// An operation that was started before, here or elsewhere with the same token.
  Operation operation(const std::string& name, const CallOptions& options = {}) const;

  /// The operations of this caller, the newest first, without their results.
  std::vector<Operation> operations(const CallOptions& options = {}) const;

  /// Waits for the end of an operation, for as long as it takes.
  Operation wait_for_operation(const std::string& name, std::optional<CancellationToken> cancellation = {}) const;

  /// Asks the server to end an operation; this does nothing if it has ended.
  void cancel_operation(const std::string& name, const CallOptions& options = {}) const;

  /// Removes an operation that has ended, with its result.
  void delete_operation(const std::string& name, const CallOptions& options = {}) const;

 private:
  std::shared_ptr<const struct Connection> connection_;
};

}  // namespace lstm_explain

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
#include "lstm_explain/stream.hpp"

namespace lstm_explain {

/// An encrypted connection. Each part is the text of a PEM file; read_pem reads one.
struct Tls {
  /// Who may have signed the server's certificate; default: the authorities that gRPC trusts.
  std::string authority{};
  /// The client's own, for mutual TLS.
  std::string certificate{}, key{};
  /// The name expected in the server's certificate, if it is not the host of the address.
  std::string server_name{};

  /// @throws InvalidRequest where a file cannot be read. An empty path leaves that part out.
  static Tls from_files(const std::string& authority, const std::string& certificate = {}, const std::string& key = {});
};

/// How a client connects.
struct ConnectOptions {
  /// Default: plain text.
  std::optional<Tls> tls{};
  /// A bearer token that goes with every call. For one that changes: token_source.
  std::string token{};
  /// Asked for the bearer token of every call, by the thread that calls.
  std::function<std::string()> token_source{};
  /// Allow a token over an unencrypted connection that leaves this machine.
  bool plaintext_token = false;
  /// Send calls that change nothing again, as the published service config says.
  bool retry = true;
  /// Limit for one message, either way.
  std::size_t max_message_bytes = 64U << 20U;
  /// For an explanation, a listing, a description or a deletion that sets none of its own, retries included. Streams
  /// and imports have no default.
  std::chrono::milliseconds timeout = std::chrono::minutes(1);
  /// Further channel arguments of gRPC; they win.
  std::map<std::string, std::variant<int, std::string>> channel_arguments{};
};

/// What one call may take, and what ends it.
struct CallOptions {
  /// Travels to the server.
  std::optional<std::chrono::milliseconds> timeout{};
  std::optional<CancellationToken> cancellation{};
};

/// Asks an explanation server. Safe for use by several threads. Every call throws a subclass of Error when it fails.
class Client {
 public:
  /// Connects to host:port. Nothing is sent before the first call.
  /// @throws InvalidRequest where a token would go over the net in the open.
  explicit Client(const std::string& address, ConnectOptions options = {});
  ~Client();
  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;

  /// Predicts one batch and says why.
  Result explain(const Request& request, const CallOptions& options = {}) const;

  /// Sends the requests that `next` returns, until it returns none, over one stream; see AnswerStream.
  AnswerStream explain_stream(std::function<std::optional<Request>()> next, const CallOptions& options = {}) const;
  /// The same for requests that are there already.
  AnswerStream explain_stream(std::vector<Request> requests, const CallOptions& options = {}) const;

  /// Every model and version, those that failed to load too.
  std::vector<ModelSummary> models(const CallOptions& options = {}) const;

  /// One model. An empty version is the newest that is ready.
  ModelDetail model(const std::string& name, const std::string& version = {}, const CallOptions& options = {}) const;

  /// Adds a version of a model. The server has to allow imports.
  ModelDetail import_model(const Import& model, const CallOptions& options = {}) const;

  /// Removes a version, or with an empty version the whole model. The server has to allow it.
  void delete_model(const std::string& name, const std::string& version = {}, const CallOptions& options = {}) const;

 private:
  std::shared_ptr<const struct Connection> connection_;
};

}  // namespace lstm_explain

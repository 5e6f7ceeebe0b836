// SPDX-License-Identifier: Apache-2.0

#include "connection.hpp"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <limits>

#include "status.hpp"

namespace lstm_explain {
namespace {

// Beyond this a deadline says nothing, and the clock would overflow.
constexpr std::chrono::milliseconds LONGEST = std::chrono::hours(24 * 365);

bool starts_with(const std::string& text, const std::string& head) { return text.compare(0, head.size(), head) == 0; }

bool is_loopback(const std::string& address) {
  if (starts_with(address, "unix:")) return true;
  const std::string host = address.substr(0, address.rfind(':'));
  const bool number = host.find_first_not_of("0123456789.") == std::string::npos;
  return host == "localhost" || host == "[::1]" || (number && starts_with(host, "127."));
}

std::string read_pem(const std::string& field, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file) refuse(field, "the file " + path + " cannot be read");
  return text;
}

std::shared_ptr<grpc::ChannelCredentials> credentials(const std::optional<Tls>& tls) {
  if (!tls) return grpc::InsecureChannelCredentials();
  const auto pem = [](const std::string& field, const std::string& text) {
    // gRPC would only say, at the first call, that there is no connection.
    if (!text.empty() && text.find("-----BEGIN ") == std::string::npos) refuse(field, "is not the text of a PEM file");
    return text;
  };
  if (tls->certificate.empty() != tls->key.empty()) refuse("tls", "a certificate and its key go together");
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = pem("tls.authority", tls->authority);
  options.pem_cert_chain = pem("tls.certificate", tls->certificate);
  options.pem_private_key = pem("tls.key", tls->key);
  return grpc::SslCredentials(options);
}

grpc::ChannelArguments arguments(const ConnectOptions& options) {
  grpc::ChannelArguments out;
  const auto limit = static_cast<int>(
      std::min<std::size_t>(options.max_message_bytes, static_cast<std::size_t>(std::numeric_limits<int>::max())));
  out.SetMaxReceiveMessageSize(limit);
  out.SetMaxSendMessageSize(limit);
  out.SetInt(GRPC_ARG_ENABLE_RETRIES, options.retry ? 1 : 0);
  if (options.retry) {
    out.SetServiceConfigJSON(SERVICE_CONFIG);
    out.SetInt(GRPC_ARG_PER_RPC_RETRY_BUFFER_SIZE, limit);  // of a larger request there would be no copy to send again
  }
  if (options.tls && !options.tls->server_name.empty()) out.SetSslTargetNameOverride(options.tls->server_name);
  for (const auto& [name, value] : options.channel_arguments) {
    if (const int* number = std::get_if<int>(&value)) {
      out.SetInt(name, *number);
    } else {
      out.SetString(name, std::get<std::string>(value));
    }
  }
  return out;
}

}  // namespace

Tls Tls::from_files(const std::string& authority, const std::string& certificate, const std::string& key) {
  Tls out;
  if (!authority.empty()) out.authority = read_pem("tls.authority", authority);
  if (!certificate.empty()) out.certificate = read_pem("tls.certificate", certificate);
  if (!key.empty()) out.key = read_pem("tls.key", key);
  return out;
}

Connection::Connection(const std::string& address, ConnectOptions chosen) : options(std::move(chosen)) {
  const bool with_token = !options.token.empty() || options.token_source;
  if (with_token && !options.tls && !options.plaintext_token && !is_loopback(address)) {
    refuse("token", "over an unencrypted connection others can read it: set tls, or plaintext_token");
  }
  channel = grpc::CreateCustomChannel(address, credentials(options.tls), arguments(options));
  explanations = v1::ExplanationService::NewStub(channel);
  models = v1::ModelService::NewStub(channel);
  operations = v1::OperationService::NewStub(channel);
}

Call::Call(const Connection& connection, const CallOptions& options,
           std::optional<std::chrono::milliseconds> otherwise) {
  const auto timeout = options.timeout ? options.timeout : otherwise;
  if (timeout) context.set_deadline(std::chrono::system_clock::now() + std::min(*timeout, LONGEST));
  const auto& source = connection.options.token_source;
  if (const std::string token = source ? source() : connection.options.token; !token.empty()) {
    // gRPC ends the program where a header has other characters.
    const auto printable = [](char letter) { return letter > ' ' && letter <= '~'; };
    if (!std::all_of(token.begin(), token.end(), printable)) refuse("token", "has other than printable ASCII letters");
    context.AddMetadata("authorization", "Bearer " + token);
  }
  if (options.cancellation) reaction_.emplace(*options.cancellation, [this] { context.TryCancel(); });
}

}  // namespace lstm_explain

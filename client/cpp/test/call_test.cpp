// SPDX-License-Identifier: Apache-2.0

// What a caller sees of a server that misbehaves: a gRPC server of this process, over a real socket.
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/server_context.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "lstm_explain/client.hpp"
#include "lstm_explain/v1/explanation.grpc.pb.h"
#include "lstm_explain/v1/model.grpc.pb.h"

using namespace lstm_explain;
using namespace std::chrono_literals;

namespace {

using Talk = grpc::ServerReaderWriter<v1::ExplainStreamResponse, v1::ExplainStreamRequest>;

class Server : public v1::ExplanationService::Service {
 public:
  explicit Server(std::function<grpc::Status(Talk&)> talk = {}) : talk_(std::move(talk)) {
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(static_cast<v1::ExplanationService::Service*>(this));
    server_ = builder.BuildAndStart();
    address = "127.0.0.1:" + std::to_string(port);
  }
  ~Server() override { server_->Shutdown(std::chrono::system_clock::now()); }

  std::string address;
  std::atomic<int> calls{0};

 private:
  /// Never answers, but to a model of the name "unavailable".
  grpc::Status Explain(grpc::ServerContext* context, const v1::ExplainRequest* request, v1::ExplainResponse*) override {
    ++calls;
    if (request->model() == "unavailable") return {grpc::UNAVAILABLE, "not now"};
    while (!context->IsCancelled()) std::this_thread::sleep_for(5ms);
    return grpc::Status::CANCELLED;
  }
  grpc::Status ExplainStream(grpc::ServerContext*, Talk* talk) override { return talk_(*talk); }

  std::function<grpc::Status(Talk&)> talk_;
  std::unique_ptr<grpc::Server> server_;
};

grpc::Status echo(Talk& talk) {
  v1::ExplainStreamRequest asked;
  while (talk.Read(&asked)) {
    v1::ExplainStreamResponse answer;
    answer.set_id(asked.id());
    *answer.mutable_response()->mutable_relevance() = asked.request().inputs();
    if (!talk.Write(answer)) break;
  }
  return grpc::Status::OK;
}

Request request(const std::string& model = "m") {
  Request out;
  out.model = model;
  return out;
}

}  // namespace

TEST(Call, NobodyListens) {
  ConnectOptions options;
  options.retry = false;
  const Client client("127.0.0.1:1", options);
  EXPECT_THROW(client.models(), Unavailable);
  auto answers = client.explain_stream(std::vector<Request>{request()});
  EXPECT_THROW(answers.next(), Unavailable);
  EXPECT_FALSE(answers.next().has_value());
}

TEST(Call, NobodyAnswers) {
  Server server;
  const Client client(server.address);
  EXPECT_THROW(client.explain(request(), {50ms}), DeadlineExceeded);
  ConnectOptions options;
  options.timeout = 50ms;
  EXPECT_THROW(Client(server.address, options).explain(request()), DeadlineExceeded);
}

TEST(Call, TheCallerCancels) {
  Server server;
  const Client client(server.address);
  const CancellationToken token;
  std::thread other([&] {
    while (server.calls == 0) std::this_thread::sleep_for(5ms);
    token.cancel();
  });
  EXPECT_THROW(client.explain(request(), {10s, token}), Cancelled);
  other.join();
  EXPECT_TRUE(token.cancelled());
  EXPECT_THROW(client.explain(request(), {10s, token}), Cancelled);
  EXPECT_EQ(server.calls, 1);  // the second call did not leave this process
}

TEST(Call, AttemptsAreThoseOfTheServiceConfig) {
  Server server;
  EXPECT_THROW(Client(server.address).explain(request("unavailable")), Unavailable);
  EXPECT_EQ(server.calls, 5);
  ConnectOptions options;
  options.retry = false;
  EXPECT_THROW(Client(server.address, options).explain(request("unavailable")), Unavailable);
  EXPECT_EQ(server.calls, 6);
}

TEST(Call, ATokenDoesNotTravelInTheClear) {
  ConnectOptions options;
  options.token = "secret";
  for (const char* open : {"explain.example:443", "127.explain.example:443", "10.0.0.1:1"}) {
    EXPECT_THROW(Client(open, options), InvalidRequest) << open;
  }
  for (const char* near : {"127.0.0.1:1", "[::1]:1", "localhost:1", "unix:///tmp/socket"}) {
    EXPECT_NO_THROW(Client(near, options)) << near;
  }
  options.plaintext_token = true;
  EXPECT_NO_THROW(Client("explain.example:443", options));
  options.token = "sec\nret";
  EXPECT_THROW(Client("127.0.0.1:1", options).models(), InvalidRequest);
}

TEST(Call, WhatIsNotPemIsRefused) {
  ConnectOptions options;
  options.tls = Tls{"authority", "", "", ""};
  EXPECT_THROW(Client("127.0.0.1:1", options), InvalidRequest);
  options.tls = Tls{"", "-----BEGIN CERTIFICATE-----", "", ""};
  EXPECT_THROW(Client("127.0.0.1:1", options), InvalidRequest);
  EXPECT_THROW(Tls::from_files("/nowhere.pem"), InvalidRequest);
}

TEST(Call, AFileThatIsNotThereIsNotImported) {
  Import model;
  model.name = "m";
  model.path = "/nowhere.onnx";
  EXPECT_THROW(Client("127.0.0.1:1").import_model(model), InvalidRequest);
}

TEST(Stream, AnswersComeWithTheirIds) {
  Server server(echo);
  std::vector<Request> requests(3, request());
  requests[1].id = "mine";
  std::vector<std::string> ids;
  for (const Answer& answer : Client(server.address).explain_stream(requests)) ids.push_back(answer.id());
  EXPECT_EQ(ids, (std::vector<std::string>{"0", "mine", "2"}));
}

TEST(Stream, ARequestThatCannotTravelIsAnsweredHere) {
  Server server(echo);
  std::vector<Request> requests(3, request());
  requests[1].model = "\xff";
  int good = 0;
  for (const Answer& answer : Client(server.address).explain_stream(requests)) {
    good += answer.ok() ? 1 : 0;
    if (answer.id() == "1") {
      EXPECT_THROW(answer.result(), InvalidRequest);
      EXPECT_EQ(answer.error()->field(), "model");
    }
  }
  EXPECT_EQ(good, 2);
}

/// A source that waits for the answer to the request before gets it, whatever that answer is.
TEST(Stream, RequestsMayDependOnAnswers) {
  Server server(echo);
  const Client client(server.address);
  std::atomic<int> answered{0};
  int asked = 0;
  auto answers = client.explain_stream([&]() -> std::optional<Request> {
    while (answered < asked) std::this_thread::sleep_for(1ms);
    if (asked == 4) return std::nullopt;
    return request(asked++ == 2 ? "\xff" : "m");
  });
  while (answers.next()) ++answered;
  EXPECT_EQ(answered, 4);
}

/// While nobody takes answers, no more requests are asked for than the connection's buffers hold.
TEST(Stream, MemoryIsBounded) {
  Server server(echo);
  const Client client(server.address);
  const Tensor large({1 << 18}, std::vector<float>(1 << 18));  // 1 MiB
  constexpr int MANY = 200;
  std::atomic<int> asked{0};
  auto answers = client.explain_stream([&]() -> std::optional<Request> {
    if (asked == MANY) return std::nullopt;
    ++asked;
    Request out = request();
    out.inputs["x"] = large;
    return out;
  });
  ASSERT_TRUE(answers.next().has_value());
  int before = -1;
  while (before != asked) {
    before = asked;
    std::this_thread::sleep_for(500ms);
  }
  EXPECT_LT(asked, MANY / 4);
  int received = 1;
  while (const auto answer = answers.next()) {
    EXPECT_EQ(answer->result().relevance.at("x"), large);
    ++received;
  }
  EXPECT_EQ(received, MANY);
}

TEST(Stream, OneMayLeave) {
  Server server(echo);
  const Client client(server.address);
  auto answers = client.explain_stream([] { return std::optional(request()); });
  EXPECT_TRUE(answers.next().has_value());
}

TEST(Stream, WhatTheSourceThrowsComesOut) {
  Server server(echo);
  auto answers =
      Client(server.address).explain_stream([]() -> std::optional<Request> { throw std::range_error("mine"); });
  EXPECT_THROW(answers.next(), std::range_error);
  EXPECT_FALSE(answers.next().has_value());
}

/// The caller learns at once, though the source is still thinking.
TEST(Stream, ItBreaks) {
  Server server([](Talk&) { return grpc::Status(grpc::PERMISSION_DENIED, "not you"); });
  std::atomic<bool> heard{false};
  auto answers = Client(server.address).explain_stream([&]() -> std::optional<Request> {
    while (!heard) std::this_thread::sleep_for(1ms);
    return request();
  });
  EXPECT_THROW(answers.next(), PermissionDenied);
  heard = true;
  EXPECT_FALSE(answers.next().has_value());
}

TEST(Stream, TheCallerCancels) {
  Server server([](Talk& talk) {
    v1::ExplainStreamRequest asked;
    while (talk.Read(&asked)) {
    }
    return grpc::Status::OK;
  });
  const CancellationToken token;
  auto answers = Client(server.address).explain_stream([] { return std::optional(request()); }, {10s, token});
  token.cancel();
  EXPECT_THROW(answers.next(), Cancelled);
}

// SPDX-License-Identifier: Apache-2.0

#include "suite.hpp"

#include <algorithm>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <openssl/evp.h>

#include <fstream>
#include <iostream>
#include <set>
#include <thread>

#include "check.hpp"

namespace conformance {
namespace {

namespace fs = std::filesystem;

std::string content(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("there is no " + path.string());
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::string hex(const unsigned char* bytes, std::size_t size) {
  std::string out;
  for (std::size_t i = 0; i < size; ++i) {
    for (const int digit : {bytes[i] >> 4, bytes[i] & 15}) out += "0123456789abcdef"[digit];
  }
  return out;
}

/// Returns the SHA-256 of the elements of each input, row-major and little-endian: the client does not compile on other
/// machines.
Hashes hashes(const lx::Result& actual, const std::string& prefix = {}) {
  Hashes out;
  for (const auto& [name, tensor] : actual.relevance) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    EVP_Digest(tensor.bytes().data(), tensor.bytes().size(), digest, &size, EVP_sha256(), nullptr);
    out[prefix + name] = hex(digest, size);
  }
  return out;
}

/// Cancels after a while, from another thread.
class Canceller {
 public:
  Canceller(lx::CancellationToken token, std::chrono::milliseconds after)
      : thread_([token, after] {
          std::this_thread::sleep_for(after);
          token.cancel();
        }) {}
  ~Canceller() { thread_.join(); }
  Canceller(const Canceller&) = delete;
  Canceller& operator=(const Canceller&) = delete;

 private:
  std::thread thread_;
};

Hashes explain(const lx::Client& client, const json& said) {
  const json& asked = said.at("request");
  lx::CallOptions options;
  if (asked.contains("deadline_ms")) options.timeout = std::chrono::milliseconds(asked["deadline_ms"].get<int>());
  std::optional<Canceller> canceller;
  if (asked.contains("cancel_after_ms")) {
    options.cancellation.emplace();
    canceller.emplace(*options.cancellation, std::chrono::milliseconds(asked["cancel_after_ms"].get<int>()));
  }
  const lx::Result actual = client.explain(build_request(asked), options);
  check_result(actual, said.value("expect", json::object()));
  return hashes(actual);
}

/// Checks a result per target; the number of the target precedes the names of the hashes.
Hashes check_each(const std::vector<lx::Result>& actual, const json& expected, const std::string& prefix = {}) {
  const json& results = expected.at("results");
  if (actual.size() != results.size()) {
    throw Wrong(std::to_string(actual.size()) + " results came, expected " + std::to_string(results.size()));
  }
  Hashes found;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    check_result(actual[i], results[i]);
    found.merge(hashes(actual[i], prefix + std::to_string(i) + "/"));
  }
  return found;
}

Hashes explain_many(const lx::Client& client, const json& said) {
  lx::Request request = build_request(said.at("request"));
  const std::vector<lx::Result> actual = client.explain_many(request);
  const json expected = said.value("expect", json::object());
  Hashes found = check_each(actual, expected);
  request.targets.clear();
  const json& singles = expected.at("singles");
  for (std::size_t i = 0; i < singles.size(); ++i) {
    request.target = build_target(singles[i]);
    if (hashes(client.explain(request)) != hashes(actual[i])) {
      throw Wrong("target " + std::to_string(i) + " alone has another relevance");
    }
  }
  return found;
}

Hashes stream(const lx::Client& client, const json& said) {
  std::vector<lx::Request> requests;
  for (const json& item : said.at("requests")) requests.push_back(build_request(item.at("request"), item.at("id")));
  const json& answers = said.at("answers");
  Hashes found;
  std::set<std::string> seen;
  std::set<std::string> reported;  // written by the thread that reads the stream, which has ended after the last answer
  lx::ProgressReport progress;
  if (said.contains("progress")) {
    progress = [&reported](const std::string& id, std::int64_t done, std::int64_t total) {
      if (done < 0 || done > total) throw Wrong(id + ": progress beyond the total");
      reported.insert(id);
    };
  }
  lx::AnswerStream received = client.explain_stream(std::move(requests), {}, progress);
  for (const lx::Answer& answer : received) {
    const std::string& id = answer.id();
    if (!answers.contains(id) || !seen.insert(id).second) throw Wrong("an answer to " + id + " came");
    try {
      if (answers[id].contains("expect_error")) {
        if (answer.ok()) throw Wrong("a result came, expected an error");
        check_error(*answer.error(), answers[id]["expect_error"]);
      } else if (answers[id].at("expect").contains("results")) {
        found.merge(check_each(answer.results(), answers[id]["expect"], id + "/"));
      } else {
        check_result(answer.result(), answers[id].at("expect"));
        found.merge(hashes(answer.result(), id + "/"));
      }
    } catch (const Wrong& wrong) {
      throw Wrong(id + ": " + wrong.what());
    }
  }
  if (seen.size() != answers.size()) {
    throw Wrong(std::to_string(seen.size()) + " answers came, expected " + std::to_string(answers.size()));
  }
  if (said.contains("progress") && reported != said["progress"].get<std::set<std::string>>()) {
    throw Wrong("progress of " + std::to_string(reported.size()) + " requests came, or of others");
  }
  return found;
}

Hashes import_model(const lx::Client& client, const json& said, const fs::path& models) {
  const json& brought = said.at("import");
  lx::Import model;
  model.name = brought.at("name");
  model.version = brought.value("version", "");
  model.path = models / brought.at("model").get<std::string>();
  model.config = brought.value("config", "");
  const lx::ModelDetail actual = client.import_model(model);
  std::string wrong;
  Hashes found;
  try {
    check_detail(actual, said.value("expect", json::object()).value("detail", json::object()));
    found = explain(client, said);
  } catch (const std::exception& error) {
    wrong = error.what();
  }
  client.delete_model(model.name);
  if (!wrong.empty()) throw Wrong(wrong);
  try {
    explain(client, said);
  } catch (const lx::ModelNotFound&) {
    return found;
  }
  throw Wrong("the model answers after it was deleted");
}

void check_route(const lx::ModelRoute& actual, const json& expected) {
  const json came = {{"default_version", actual.default_version},
                     {"canary_version", actual.canary_version},
                     {"canary_share", actual.canary_share},
                     {"previous_version", actual.previous_version}};
  if (came != expected) throw Wrong("the route is " + came.dump() + ", expected " + expected.dump());
}

Hashes route_model(const lx::Client& client, const json& said) {
  const json& asked = said.at("route");
  lx::ModelRoute route;
  route.default_version = asked.at("default_version");
  route.canary_version = asked.at("canary_version");
  route.canary_share = asked.at("canary_share");
  const std::string model = said.at("model");
  const lx::ModelRoute chosen = client.route_model(model, route);
  const lx::ModelRoute back = client.roll_back_model(model);
  check_route(chosen, said.at("expect").at("route"));
  check_route(back, said.at("expect").at("rolled_back"));
  return {};
}

Hashes operation(const lx::Client& client, const json& said) {
  const lx::Request request = build_request(said.at("request"), "");
  const std::string name = client.start(request).name;
  const lx::Operation ended = client.wait_for_operation(name);
  if (ended.state != lx::OperationState::succeeded) throw Wrong("the operation is " + std::string(lx::name(ended.state)));
  check_result(ended.result(), said.at("expect"));
  const auto listed = client.operations();
  if (std::none_of(listed.begin(), listed.end(), [&name](const auto& one) { return one.name == name; })) {
    throw Wrong("the operation is not listed");
  }
  Hashes found = hashes(ended.result());
  if (hashes(client.explain(request)) != found) throw Wrong("the call has another relevance");
  client.cancel_operation(name);
  client.delete_operation(name);
  try {
    client.operation(name);
  } catch (const lx::ModelNotFound&) {
    return found;
  }
  throw Wrong("the operation is there after it was deleted");
}

Hashes call(const lx::Client& client, const json& said, const fs::path& models) {
  const std::string call = said.at("call");
  const json expected = said.value("expect", json::object());
  if (call == "explain") return explain(client, said);
  if (call == "explain_many") return explain_many(client, said);
  if (call == "explain_stream") return stream(client, said);
  if (call == "import_model") return import_model(client, said, models);
  if (call == "route_model") return route_model(client, said);
  if (call == "operation") return operation(client, said);
  if (call == "models") {
    check_listed(client.models(), expected.value("models", json::array()));
  } else if (call == "model") {
    check_detail(client.model(said.at("model"), said.value("version", "")), expected.value("detail", json::object()));
  } else {
    throw std::runtime_error("the call " + call);
  }
  return {};
}

/// What is wrong with a golden message, or nothing.
std::string decoded_and_encoded(const std::string& type, const std::string& bytes) {
  const auto* descriptor = google::protobuf::DescriptorPool::generated_pool()->FindMessageTypeByName(type);
  if (descriptor == nullptr) return "the stubs have no " + type;
  const auto* prototype = google::protobuf::MessageFactory::generated_factory()->GetPrototype(descriptor);
  const std::unique_ptr<google::protobuf::Message> message(prototype->New());
  if (!message->ParseFromString(bytes)) return "cannot be decoded";
  const std::string again = message->SerializeAsString();
  message->DiscardUnknownFields();
  if (message->SerializeAsString() != again) return "the stubs do not know every field";
  const auto written = [](const std::string& text) {
    return hex(reinterpret_cast<const unsigned char*>(text.data()), text.size());
  };
  return again == bytes ? "" : written(bytes) + " became " + written(again);
}

}  // namespace

bool Suite::run(const fs::path& cases, const fs::path& golden_folder) {
  std::set<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(cases)) {
    if (entry.path().extension() == ".json") paths.insert(entry.path());
  }
  for (const auto& path : paths) {
    const json said = json::parse(content(path));
    const auto over = said.value("over", std::vector<std::string>{over_});
    if (std::find(over.begin(), over.end(), over_) != over.end()) one(said);
  }
  golden(golden_folder);
  return good_;
}

void Suite::one(const json& said) {
  Hashes found;
  std::string wrong;
  try {
    found = call(connect_(said.value("token", token_)), said, models_);
    if (said.contains("expect_error")) throw Wrong("no error came, expected " + said["expect_error"].dump());
  } catch (const lx::Error& error) {
    wrong = error.what();
    if (said.contains("expect_error")) {
      wrong.clear();
      try {
        check_error(error, said["expect_error"]);
      } catch (const Wrong& other) {
        wrong = other.what();
      }
    }
  } catch (const std::exception& error) {
    wrong = error.what();
  }
  say(said.at("name"), wrong, found);
}

void Suite::golden(const fs::path& folder) {
  for (const json& entry : json::parse(content(folder / "index.json"))) {
    const std::string name = entry.at("name");
    say("golden/" + name, decoded_and_encoded(entry.at("message"), content(folder / (name + ".bin"))), {});
  }
}

void Suite::say(const std::string& name, const std::string& wrong, const Hashes& found) {
  good_ = good_ && wrong.empty();
  const json line = {
      {"case", name}, {"ok", wrong.empty()}, {"detail", wrong}, {"relevance", wrong.empty() ? found : Hashes{}}};
  std::cout << line.dump(-1, ' ', false, json::error_handler_t::replace) << std::endl;
}

}  // namespace conformance

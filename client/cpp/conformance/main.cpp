// SPDX-License-Identifier: Apache-2.0

// Runs the conformance cases through the C++ client; tests/conformance/README.md says what goes in and out.
#include <algorithm>
#include <cstdio>
#include <iostream>

#include "suite.hpp"

namespace {

namespace lx = lstm_explain;
using Flags = std::map<std::string, std::string>;

constexpr const char* SENTENCE = "neither funny nor suspenseful nor particularly well-drawn";
constexpr std::size_t WARM_UP = 20;

Flags read_flags(int count, char** arguments) {
  Flags out;
  for (int i = 2; i + 1 < count; i += 2) out[arguments[i]] = arguments[i + 1];
  return out;
}

lx::Client connect(Flags flags, const std::string& token) {
  lx::ConnectOptions options;
  if (flags.count("--ca") != 0) options.tls = lx::Tls::from_files(flags["--ca"], flags["--cert"], flags["--key"]);
  options.token = token;
  return lx::Client(flags["--address"], options);
}

void latency(const lx::Client& client, const std::string& model, std::size_t calls) {
  lx::Request request;
  request.model = model;
  request.inputs["tokens"] = SENTENCE;
  request.method = lx::Lrp{};
  std::vector<double> taken;
  for (std::size_t i = 0; i < WARM_UP + calls; ++i) {
    const auto began = std::chrono::steady_clock::now();
    client.explain(request);
    const std::chrono::duration<double, std::milli> lasted = std::chrono::steady_clock::now() - began;
    if (i >= WARM_UP) taken.push_back(lasted.count());
  }
  std::sort(taken.begin(), taken.end());
  const auto at = [&](double share) {
    return taken[std::min(taken.size() - 1, static_cast<std::size_t>(share * static_cast<double>(taken.size())))];
  };
  std::printf("{\"client\": \"cpp\", \"calls\": %zu, \"p50_ms\": %.3f, \"p99_ms\": %.3f}\n", calls, at(0.50), at(0.99));
}

}  // namespace

int main(int count, char** arguments) {
  try {
    const std::string what = count > 1 ? arguments[1] : "";
    Flags flags = read_flags(count, arguments);
    const auto open = [&](const std::string& token) { return connect(flags, token); };
    if (what == "conformance") {
      const std::string over = flags.count("--ca") != 0 ? "tls" : "plain";
      conformance::Suite suite(open, flags["--token"], over, flags["--models"]);
      return suite.run(flags["--cases"], flags["--golden"]) ? 0 : 1;
    }
    if (what == "latency") {
      latency(open(flags["--token"]), flags["--model"], std::stoul(flags["--calls"]));
      return 0;
    }
    std::cerr << "usage: conformance conformance|latency, with flags\n";
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
  }
  return 2;
}

// SPDX-License-Identifier: Apache-2.0

// Explains a sentence with the model sentiment: sentiment [ADDRESS] [SENTENCE]
#include <cstdio>
#include <lstm_explain/client.hpp>

int main(int count, char** arguments) {
  const char* address = count > 1 ? arguments[1] : "127.0.0.1:50051";
  const char* sentence = count > 2 ? arguments[2] : "neither funny nor suspenseful nor particularly well-drawn";
  try {
    const lstm_explain::Client client(address);
    lstm_explain::Request request;
    request.model = "sentiment";
    request.inputs["tokens"] = sentence;
    const lstm_explain::Result result = client.explain(request, {std::chrono::seconds(10)});

    const auto words = result.tokens.at("tokens").values<std::string>();
    const auto relevance = result.relevance.at("tokens").to_doubles();
    for (std::size_t i = 0; i < words.size(); ++i) std::printf("%+8.3f  %s\n", relevance[i], words[i].c_str());
    const auto& ledger = result.ledger;
    std::printf("class %lld: %.3f explained = %.3f words %+.3f absorbed %+.1e rounding\n",
                static_cast<long long>(result.target->indices[0]), result.explained[0], ledger.inputs[0],
                ledger.absorbed[0], ledger.residual[0]);
  } catch (const lstm_explain::Error& error) {
    std::fprintf(stderr, "%s: %s\n", lstm_explain::name(error.code()), error.what());
    return 1;
  }
}

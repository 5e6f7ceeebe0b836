// SPDX-License-Identifier: Apache-2.0

#include "wire.hpp"

#include <google/protobuf/text_format.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "lstm_explain/error.hpp"

using namespace lstm_explain;
using google::protobuf::TextFormat;
using google::protobuf::util::MessageDifferencer;

namespace {

template <class Message>
Message parsed(const std::string& text) {
  Message out;
  EXPECT_TRUE(TextFormat::ParseFromString(text, &out)) << text;
  return out;
}

/// Encoded it is the message, and the message decoded is it again.
void expect_message(const Method& method, const std::string& text) {
  v1::Method message;
  wire::encode(method, &message);
  const auto expected = parsed<v1::Method>(text);
  EXPECT_TRUE(MessageDifferencer::Equals(message, expected)) << message.DebugString();
  v1::Method again;
  wire::encode(wire::decode(expected).value(), &again);
  EXPECT_TRUE(MessageDifferencer::Equals(again, expected)) << again.DebugString();
}

}  // namespace

TEST(Wire, MethodsWithWhatIsSetAndWhatIsNot) {
  expect_message(Lrp{}, "lrp {}");
  expect_message(Lrp{ProductRule::abs, 0.0, 1.0, {}},
                 "lrp { product_rule: PRODUCT_RULE_ABS epsilon: 0 bias_factor: 1 }");
  expect_message(Gradient{}, "gradient {}");
  expect_message(GradientTimesInput{}, "gradient_times_input {}");
  expect_message(ContextualDecomposition{}, "contextual_decomposition {}");
  expect_message(ContextualDecomposition{Span{0, 5}}, "contextual_decomposition { span { start: 0 end: 5 } }");
  expect_message(
      IntegratedGradients{0, {{"x", Tensor({1}, {true})}}},
      R"(integrated_gradients { steps: 0 baseline { name: "x" dtype: DATA_TYPE_BOOL shape: 1 data: "\001" } })");
  expect_message(SmoothGrad{3, 0.0, 0}, "smooth_grad { samples: 3 noise: 0 seed: 0 }");
  expect_message(SmoothGrad{}, "smooth_grad {}");
  expect_message(Occlusion{2, {}, Quantity::probability}, "occlusion { window: 2 of: QUANTITY_PROBABILITY }");
  expect_message(ShapleySampling{2, 9, {}, Players::cells},
                 "shapley_sampling { permutations: 2 seed: 9 over: PLAYERS_CELLS }");
}

TEST(Wire, RulesByLayer) {
  Composite composite;
  composite.rules = {{"Gemm", rule::Gamma{0.0}}, {"dense", rule::AlphaBeta{2.0, {}}},
                     {"n", rule::ZBox{-1, 1}},   {"f", rule::Flat{}},
                     {"z", rule::ZPlus{}},       {"g", rule::Gamma{}}};
  composite.first = rule::Epsilon{0.1};
  expect_message(Lrp{{}, {}, {}, composite}, R"(lrp { composite {
      rules { key: "Gemm" value { gamma { gamma: 0 } } }
      rules { key: "dense" value { alpha_beta { alpha: 2 } } }
      rules { key: "n" value { z_box { low: -1 high: 1 } } }
      rules { key: "f" value { flat {} } }
      rules { key: "z" value { z_plus {} } }
      rules { key: "g" value { gamma {} } }
      first { epsilon { epsilon: 0.1 } } } })");
}

TEST(Wire, MethodsThatAreNotKnown) { EXPECT_FALSE(wire::decode(v1::Method()).has_value()); }

TEST(Wire, Requests) {
  Request request;
  request.model = "m";
  request.inputs = {{"b", Tensor({1}, {2.0F})}, {"a", Tensor({}, {true})}};
  request.method = Gradient{};
  request.target = Target::at({4, -1}, "logits");
  request.target->contrast = {0, 0};
  request.target->weights = Tensor({1}, {false});
  request.target->batch_axis = 0;
  request.target->no_batch_axis = true;
  request.target->pre_activation = false;
  request.version = "3";
  request.capture = {"inner"};
  v1::ExplainRequest message;
  wire::encode(request, &message);
  const auto expected = parsed<v1::ExplainRequest>(R"(
    model: "m" version: "3" capture: "inner" method { gradient {} }
    inputs { name: "a" dtype: DATA_TYPE_BOOL data: "\001" }
    inputs { name: "b" dtype: DATA_TYPE_FLOAT32 shape: 1 data: "\000\000\000\100" }
    target { output: "logits" indices: [4, -1] contrast_indices: [0, 0] batch_axis: 0 no_batch_axis: true
             pre_activation: false weights { dtype: DATA_TYPE_BOOL shape: 1 data: "\000" } })");
  EXPECT_TRUE(MessageDifferencer::Equals(message, expected)) << message.DebugString();
  v1::Target again;
  wire::encode(wire::read<Target>(expected.target()), &again);
  EXPECT_TRUE(MessageDifferencer::Equals(again, expected.target()));
}

TEST(Wire, OtherThanUtf8IsRefused) {
  for (const std::string good : {"", "façade", "很好", "\xf0\x9f\x98\x80"})
    EXPECT_EQ(wire::checked(good, "model"), good);
  for (const char* bad : {"\xff", "a\x80", "\xc3", "\xe5\xbe", "\xc3(", "\xf0\x9f\x98", "\xf8\x88\x80\x80\x80"}) {
    Request request;
    request.model = bad;
    v1::ExplainRequest message;
    try {
      wire::encode(request, &message);
      FAIL() << bad;
    } catch (const InvalidRequest& error) {
      EXPECT_EQ(error.field(), "model");
    }
  }
}

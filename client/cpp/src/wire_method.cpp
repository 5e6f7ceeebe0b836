// Generated from proto/lstm_explain/v1/method.proto and the server's registry by `make proto`; do not edit.
#include "wire.hpp"

namespace lstm_explain::wire {
namespace {

/// Zero of every enumeration is the server's default.
template <class Choice>
std::optional<Choice> chosen(int number) {
  return number == 0 ? std::nullopt : std::optional(static_cast<Choice>(number));
}

struct RuleEncoder {
  v1::Rule* out;

  void operator()(const rule::Epsilon& m) const {
    auto* body = out->mutable_epsilon();
    if (m.epsilon) body->set_epsilon(*m.epsilon);
  }

  void operator()(const rule::Gamma& m) const {
    auto* body = out->mutable_gamma();
    if (m.gamma) body->set_gamma(*m.gamma);
  }

  void operator()(const rule::ZPlus&) const { out->mutable_z_plus(); }

  void operator()(const rule::AlphaBeta& m) const {
    auto* body = out->mutable_alpha_beta();
    if (m.alpha) body->set_alpha(*m.alpha);
    if (m.beta) body->set_beta(*m.beta);
  }

  void operator()(const rule::Flat&) const { out->mutable_flat(); }

  void operator()(const rule::ZBox& m) const {
    auto* body = out->mutable_z_box();
    body->set_low(m.low);
    body->set_high(m.high);
  }

  void operator()(const rule::WSquare&) const { out->mutable_w_square(); }
};

rule::Epsilon decode_epsilon(const v1::Rule_Epsilon& m) {
  rule::Epsilon out;
  if (m.has_epsilon()) out.epsilon = m.epsilon();
  return out;
}

rule::Gamma decode_gamma(const v1::Rule_Gamma& m) {
  rule::Gamma out;
  if (m.has_gamma()) out.gamma = m.gamma();
  return out;
}

rule::AlphaBeta decode_alpha_beta(const v1::Rule_AlphaBeta& m) {
  rule::AlphaBeta out;
  if (m.has_alpha()) out.alpha = m.alpha();
  if (m.has_beta()) out.beta = m.beta();
  return out;
}

rule::ZBox decode_z_box(const v1::Rule_ZBox& m) {
  rule::ZBox out;
  out.low = m.low();
  out.high = m.high();
  return out;
}

void encode_rule(const Rule& value, v1::Rule* out) { std::visit(RuleEncoder{out}, value); }

std::optional<Rule> decode_rule(const v1::Rule& message) {
  switch (message.rule_case()) {
    case v1::Rule::kEpsilon: return decode_epsilon(message.epsilon());
    case v1::Rule::kGamma: return decode_gamma(message.gamma());
    case v1::Rule::kZPlus: return rule::ZPlus{};
    case v1::Rule::kAlphaBeta: return decode_alpha_beta(message.alpha_beta());
    case v1::Rule::kFlat: return rule::Flat{};
    case v1::Rule::kZBox: return decode_z_box(message.z_box());
    case v1::Rule::kWSquare: return rule::WSquare{};
    case v1::Rule::RULE_NOT_SET: break;
  }
  return std::nullopt;
}

void encode_composite(const Composite& m, v1::Composite* body) {
  for (const auto& [key, value] : m.rules) {
    encode_rule(value, &(*body->mutable_rules())[checked(key, "method.composite.rules")]);
  }
  if (m.first) encode_rule(*m.first, body->mutable_first());
}

Composite decode_composite(const v1::Composite& m) {
  Composite out;
  for (const auto& [key, value] : m.rules()) {
    if (const auto read = decode_rule(value)) out.rules.emplace(key, *read);
  }
  if (m.has_first()) out.first = decode_rule(m.first());
  return out;
}

void encode_background(const Background& m, v1::Background* body) {
  encode(m.samples, "method.background.samples", body->mutable_samples());
  if (m.draws) body->set_draws(*m.draws);
  if (m.seed) body->set_seed(*m.seed);
}

Background decode_background(const v1::Background& m) {
  Background out;
  out.samples = decode_all(m.samples());
  if (m.has_draws()) out.draws = m.draws();
  if (m.has_seed()) out.seed = m.seed();
  return out;
}

void encode_span(const Span& m, v1::Span* body) {
  body->set_start(m.start);
  body->set_end(m.end);
}

Span decode_span(const v1::Span& m) {
  Span out;
  out.start = m.start();
  out.end = m.end();
  return out;
}

struct MethodEncoder {
  v1::Method* out;

  void operator()(const Lrp& m) const {
    auto* body = out->mutable_lrp();
    if (m.product_rule) body->set_product_rule(static_cast<v1::ProductRule>(*m.product_rule));
    if (m.epsilon) body->set_epsilon(*m.epsilon);
    if (m.bias_factor) body->set_bias_factor(*m.bias_factor);
    if (m.composite) encode_composite(*m.composite, body->mutable_composite());
    if (m.stabiliser) body->set_stabiliser(*m.stabiliser);
    if (m.cell_stabiliser) body->set_cell_stabiliser(*m.cell_stabiliser);
    if (m.layer_stabiliser) body->set_layer_stabiliser(*m.layer_stabiliser);
    if (m.ceiling) body->set_ceiling(*m.ceiling);
  }

  void operator()(const Gradient&) const { out->mutable_gradient(); }

  void operator()(const GradientTimesInput&) const { out->mutable_gradient_times_input(); }

  void operator()(const IntegratedGradients& m) const {
    auto* body = out->mutable_integrated_gradients();
    if (m.steps) body->set_steps(*m.steps);
    encode(m.baseline, "method.integrated_gradients.baseline", body->mutable_baseline());
    if (m.max_steps) body->set_max_steps(*m.max_steps);
    if (m.background) encode_background(*m.background, body->mutable_background());
  }

  void operator()(const SmoothGrad& m) const {
    auto* body = out->mutable_smooth_grad();
    if (m.samples) body->set_samples(*m.samples);
    if (m.noise) body->set_noise(*m.noise);
    if (m.seed) body->set_seed(*m.seed);
  }

  void operator()(const Occlusion& m) const {
    auto* body = out->mutable_occlusion();
    if (m.window) body->set_window(*m.window);
    encode(m.baseline, "method.occlusion.baseline", body->mutable_baseline());
    if (m.of) body->set_of(static_cast<v1::Quantity>(*m.of));
    if (m.over) body->set_over(static_cast<v1::Players>(*m.over));
    if (m.background) encode_background(*m.background, body->mutable_background());
  }

  void operator()(const ShapleySampling& m) const {
    auto* body = out->mutable_shapley_sampling();
    if (m.permutations) body->set_permutations(*m.permutations);
    if (m.seed) body->set_seed(*m.seed);
    encode(m.baseline, "method.shapley_sampling.baseline", body->mutable_baseline());
    if (m.over) body->set_over(static_cast<v1::Players>(*m.over));
    if (m.background) encode_background(*m.background, body->mutable_background());
    if (m.standard_error) body->set_standard_error(*m.standard_error);
    if (m.max_permutations) body->set_max_permutations(*m.max_permutations);
    if (m.exact_players) body->set_exact_players(*m.exact_players);
  }

  void operator()(const ContextualDecomposition& m) const {
    auto* body = out->mutable_contextual_decomposition();
    if (m.span) encode_span(*m.span, body->mutable_span());
  }

  void operator()(const GradientShap& m) const {
    auto* body = out->mutable_gradient_shap();
    if (m.samples) body->set_samples(*m.samples);
    if (m.seed) body->set_seed(*m.seed);
    encode(m.baseline, "method.gradient_shap.baseline", body->mutable_baseline());
    if (m.background) encode_background(*m.background, body->mutable_background());
  }

  void operator()(const Counterfactual& m) const {
    auto* body = out->mutable_counterfactual();
    if (m.most) body->set_most(*m.most);
    if (m.max_runs) body->set_max_runs(*m.max_runs);
    if (m.threshold) body->set_threshold(*m.threshold);
    encode(m.baseline, "method.counterfactual.baseline", body->mutable_baseline());
    if (m.over) body->set_over(static_cast<v1::Players>(*m.over));
    if (m.background) encode_background(*m.background, body->mutable_background());
  }
};

Lrp decode_lrp(const v1::Lrp& m) {
  Lrp out;
  out.product_rule = chosen<ProductRule>(m.product_rule());
  if (m.has_epsilon()) out.epsilon = m.epsilon();
  if (m.has_bias_factor()) out.bias_factor = m.bias_factor();
  if (m.has_composite()) out.composite = decode_composite(m.composite());
  if (m.has_stabiliser()) out.stabiliser = m.stabiliser();
  if (m.has_cell_stabiliser()) out.cell_stabiliser = m.cell_stabiliser();
  if (m.has_layer_stabiliser()) out.layer_stabiliser = m.layer_stabiliser();
  if (m.has_ceiling()) out.ceiling = m.ceiling();
  return out;
}

IntegratedGradients decode_integrated_gradients(const v1::IntegratedGradients& m) {
  IntegratedGradients out;
  if (m.has_steps()) out.steps = m.steps();
  out.baseline = decode_all(m.baseline());
  if (m.has_max_steps()) out.max_steps = m.max_steps();
  if (m.has_background()) out.background = decode_background(m.background());
  return out;
}

SmoothGrad decode_smooth_grad(const v1::SmoothGrad& m) {
  SmoothGrad out;
  if (m.has_samples()) out.samples = m.samples();
  if (m.has_noise()) out.noise = m.noise();
  if (m.has_seed()) out.seed = m.seed();
  return out;
}

Occlusion decode_occlusion(const v1::Occlusion& m) {
  Occlusion out;
  if (m.has_window()) out.window = m.window();
  out.baseline = decode_all(m.baseline());
  out.of = chosen<Quantity>(m.of());
  out.over = chosen<Players>(m.over());
  if (m.has_background()) out.background = decode_background(m.background());
  return out;
}

ShapleySampling decode_shapley_sampling(const v1::ShapleySampling& m) {
  ShapleySampling out;
  if (m.has_permutations()) out.permutations = m.permutations();
  if (m.has_seed()) out.seed = m.seed();
  out.baseline = decode_all(m.baseline());
  out.over = chosen<Players>(m.over());
  if (m.has_background()) out.background = decode_background(m.background());
  if (m.has_standard_error()) out.standard_error = m.standard_error();
  if (m.has_max_permutations()) out.max_permutations = m.max_permutations();
  if (m.has_exact_players()) out.exact_players = m.exact_players();
  return out;
}

ContextualDecomposition decode_contextual_decomposition(const v1::ContextualDecomposition& m) {
  ContextualDecomposition out;
  if (m.has_span()) out.span = decode_span(m.span());
  return out;
}

GradientShap decode_gradient_shap(const v1::GradientShap& m) {
  GradientShap out;
  if (m.has_samples()) out.samples = m.samples();
  if (m.has_seed()) out.seed = m.seed();
  out.baseline = decode_all(m.baseline());
  if (m.has_background()) out.background = decode_background(m.background());
  return out;
}

Counterfactual decode_counterfactual(const v1::Counterfactual& m) {
  Counterfactual out;
  if (m.has_most()) out.most = m.most();
  if (m.has_max_runs()) out.max_runs = m.max_runs();
  if (m.has_threshold()) out.threshold = m.threshold();
  out.baseline = decode_all(m.baseline());
  out.over = chosen<Players>(m.over());
  if (m.has_background()) out.background = decode_background(m.background());
  return out;
}

}  // namespace

void encode(const Method& method, v1::Method* out) { std::visit(MethodEncoder{out}, method); }

std::optional<Method> decode(const v1::Method& message) {
  switch (message.method_case()) {
    case v1::Method::kLrp: return decode_lrp(message.lrp());
    case v1::Method::kGradient: return Gradient{};
    case v1::Method::kGradientTimesInput: return GradientTimesInput{};
    case v1::Method::kIntegratedGradients: return decode_integrated_gradients(message.integrated_gradients());
    case v1::Method::kSmoothGrad: return decode_smooth_grad(message.smooth_grad());
    case v1::Method::kOcclusion: return decode_occlusion(message.occlusion());
    case v1::Method::kShapleySampling: return decode_shapley_sampling(message.shapley_sampling());
    case v1::Method::kContextualDecomposition: return decode_contextual_decomposition(message.contextual_decomposition());
    case v1::Method::kGradientShap: return decode_gradient_shap(message.gradient_shap());
    case v1::Method::kCounterfactual: return decode_counterfactual(message.counterfactual());
    case v1::Method::METHOD_NOT_SET: break;
  }
  return std::nullopt;
}

}  // namespace lstm_explain::wire

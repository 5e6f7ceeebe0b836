#include "status.hpp"
#include "wire.hpp"

namespace lstm_explain::wire {
namespace {

/// Sets a field of a message where the value is given.
template <class Message, class Field, class T>
void set(Message* message, void (Message::*setter)(Field), const std::optional<T>& value) {
  if (value) (message->*setter)(static_cast<Field>(*value));
}

template <class Message, class T>
std::optional<T> get(const Message& message, bool (Message::*has)() const, T (Message::*value)() const) {
  return (message.*has)() ? std::optional<T>((message.*value)()) : std::nullopt;
}

/// Zero of every enumeration is "unspecified".
template <class Choice>
std::optional<Choice> chosen(int number) {
  return number == 0 ? std::nullopt : std::optional(static_cast<Choice>(number));
}

struct RuleEncoder {
  v1::Rule* out;
  void operator()(const rule::Epsilon& r) const {
    set(out->mutable_epsilon(), &v1::Rule_Epsilon::set_epsilon, r.epsilon);
  }
  void operator()(const rule::Gamma& r) const { set(out->mutable_gamma(), &v1::Rule_Gamma::set_gamma, r.gamma); }
  void operator()(const rule::ZPlus&) const { out->mutable_z_plus(); }
  void operator()(const rule::AlphaBeta& r) const {
    set(out->mutable_alpha_beta(), &v1::Rule_AlphaBeta::set_alpha, r.alpha);
    set(out->mutable_alpha_beta(), &v1::Rule_AlphaBeta::set_beta, r.beta);
  }
  void operator()(const rule::Flat&) const { out->mutable_flat(); }
  void operator()(const rule::ZBox& r) const {
    out->mutable_z_box()->set_low(r.low);
    out->mutable_z_box()->set_high(r.high);
  }
};

std::optional<Rule> decode_rule(const v1::Rule& m) {
  switch (m.rule_case()) {
    case v1::Rule::kEpsilon:
      return rule::Epsilon{get(m.epsilon(), &v1::Rule_Epsilon::has_epsilon, &v1::Rule_Epsilon::epsilon)};
    case v1::Rule::kGamma: return rule::Gamma{get(m.gamma(), &v1::Rule_Gamma::has_gamma, &v1::Rule_Gamma::gamma)};
    case v1::Rule::kZPlus: return rule::ZPlus{};
    case v1::Rule::kAlphaBeta:
      return rule::AlphaBeta{get(m.alpha_beta(), &v1::Rule_AlphaBeta::has_alpha, &v1::Rule_AlphaBeta::alpha),
                             get(m.alpha_beta(), &v1::Rule_AlphaBeta::has_beta, &v1::Rule_AlphaBeta::beta)};
    case v1::Rule::kFlat: return rule::Flat{};
    case v1::Rule::kZBox: return rule::ZBox{m.z_box().low(), m.z_box().high()};
    case v1::Rule::RULE_NOT_SET: break;
  }
  return std::nullopt;
}

Composite decode_composite(const v1::Composite& message) {
  Composite out;
  for (const auto& [layer, said] : message.rules()) {
    if (const auto rule = decode_rule(said)) out.rules.emplace(layer, *rule);
  }
  if (message.has_first()) out.first = decode_rule(message.first());
  return out;
}

struct MethodEncoder {
  v1::Method* out;

  void operator()(const Lrp& m) const {
    auto* lrp = out->mutable_lrp();
    set(lrp, &v1::Lrp::set_product_rule, m.product_rule);
    set(lrp, &v1::Lrp::set_epsilon, m.epsilon);
    set(lrp, &v1::Lrp::set_bias_factor, m.bias_factor);
    if (!m.composite) return;
    auto* composite = lrp->mutable_composite();
    for (const auto& [layer, rule] : m.composite->rules) {
      std::visit(RuleEncoder{&(*composite->mutable_rules())[checked(layer, "method.lrp.composite.rules")]}, rule);
    }
    if (m.composite->first) std::visit(RuleEncoder{composite->mutable_first()}, *m.composite->first);
  }
  void operator()(const Gradient&) const { out->mutable_gradient(); }
  void operator()(const GradientTimesInput&) const { out->mutable_gradient_times_input(); }
  void operator()(const IntegratedGradients& m) const {
    auto* body = out->mutable_integrated_gradients();
    set(body, &v1::IntegratedGradients::set_steps, m.steps);
    encode(m.baseline, "method.integrated_gradients.baseline", body->mutable_baseline());
  }
  void operator()(const SmoothGrad& m) const {
    auto* body = out->mutable_smooth_grad();
    set(body, &v1::SmoothGrad::set_samples, m.samples);
    set(body, &v1::SmoothGrad::set_noise, m.noise);
    set(body, &v1::SmoothGrad::set_seed, m.seed);
  }
  void operator()(const Occlusion& m) const {
    auto* body = out->mutable_occlusion();
    set(body, &v1::Occlusion::set_window, m.window);
    set(body, &v1::Occlusion::set_of, m.of);
    encode(m.baseline, "method.occlusion.baseline", body->mutable_baseline());
  }
  void operator()(const ShapleySampling& m) const {
    auto* body = out->mutable_shapley_sampling();
    set(body, &v1::ShapleySampling::set_permutations, m.permutations);
    set(body, &v1::ShapleySampling::set_seed, m.seed);
    set(body, &v1::ShapleySampling::set_over, m.over);
    encode(m.baseline, "method.shapley_sampling.baseline", body->mutable_baseline());
  }
  void operator()(const ContextualDecomposition&) const { out->mutable_contextual_decomposition(); }
};

Lrp decode_lrp(const v1::Lrp& m) {
  Lrp out;
  out.product_rule = chosen<ProductRule>(m.product_rule());
  out.epsilon = get(m, &v1::Lrp::has_epsilon, &v1::Lrp::epsilon);
  out.bias_factor = get(m, &v1::Lrp::has_bias_factor, &v1::Lrp::bias_factor);
  if (m.has_composite()) out.composite = decode_composite(m.composite());
  return out;
}

}  // namespace

void encode(const Method& method, v1::Method* out) { std::visit(MethodEncoder{out}, method); }

std::optional<Method> decode(const v1::Method& message) {
  switch (message.method_case()) {
    case v1::Method::kLrp: return decode_lrp(message.lrp());
    case v1::Method::kGradient: return Gradient{};
    case v1::Method::kGradientTimesInput: return GradientTimesInput{};
    case v1::Method::kIntegratedGradients: {
      const auto& m = message.integrated_gradients();
      return IntegratedGradients{get(m, &v1::IntegratedGradients::has_steps, &v1::IntegratedGradients::steps),
                                 decode_all(m.baseline())};
    }
    case v1::Method::kSmoothGrad: {
      const auto& m = message.smooth_grad();
      return SmoothGrad{get(m, &v1::SmoothGrad::has_samples, &v1::SmoothGrad::samples),
                        get(m, &v1::SmoothGrad::has_noise, &v1::SmoothGrad::noise),
                        get(m, &v1::SmoothGrad::has_seed, &v1::SmoothGrad::seed)};
    }
    case v1::Method::kOcclusion: {
      const auto& m = message.occlusion();
      return Occlusion{get(m, &v1::Occlusion::has_window, &v1::Occlusion::window), decode_all(m.baseline()),
                       chosen<Quantity>(m.of())};
    }
    case v1::Method::kShapleySampling: {
      const auto& m = message.shapley_sampling();
      return ShapleySampling{get(m, &v1::ShapleySampling::has_permutations, &v1::ShapleySampling::permutations),
                             get(m, &v1::ShapleySampling::has_seed, &v1::ShapleySampling::seed),
                             decode_all(m.baseline()), chosen<Players>(m.over())};
    }
    case v1::Method::kContextualDecomposition: return ContextualDecomposition{};
    case v1::Method::METHOD_NOT_SET: break;
  }
  return std::nullopt;
}

}  // namespace lstm_explain::wire

package lstmexplain;

import static lstmexplain.Wire.constant;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.Consumer;
import java.util.function.Function;
import lstmexplain.Method.Composite;
import lstmexplain.Method.ContextualDecomposition;
import lstmexplain.Method.Gradient;
import lstmexplain.Method.GradientTimesInput;
import lstmexplain.Method.IntegratedGradients;
import lstmexplain.Method.Lrp;
import lstmexplain.Method.Occlusion;
import lstmexplain.Method.Players;
import lstmexplain.Method.ProductRule;
import lstmexplain.Method.Quantity;
import lstmexplain.Method.Rule;
import lstmexplain.Method.ShapleySampling;
import lstmexplain.Method.SmoothGrad;

/** Methods and rules, to and from their messages: one table of encoders each, one decoder each. */
final class MethodWire {
  private static final Map<Class<?>, Encoder<?, lstmexplain.v1.Method.Builder>> METHODS =
      new LinkedHashMap<>();
  private static final Map<Class<?>, Encoder<?, lstmexplain.v1.Rule.Builder>> RULES =
      new LinkedHashMap<>();

  @FunctionalInterface
  private interface Encoder<T, B> {
    void write(T value, B out);
  }

  private MethodWire() {}

  static {
    method(Lrp.class, MethodWire::write);
    method(Gradient.class, (m, out) -> out.getGradientBuilder());
    method(GradientTimesInput.class, (m, out) -> out.getGradientTimesInputBuilder());
    method(IntegratedGradients.class, MethodWire::write);
    method(SmoothGrad.class, MethodWire::write);
    method(Occlusion.class, MethodWire::write);
    method(ShapleySampling.class, MethodWire::write);
    method(ContextualDecomposition.class, (m, out) -> out.getContextualDecompositionBuilder());
    rule(Rule.Epsilon.class, (r, out) -> set(r.epsilon(), out.getEpsilonBuilder()::setEpsilon));
    rule(Rule.Gamma.class, (r, out) -> set(r.gamma(), out.getGammaBuilder()::setGamma));
    rule(Rule.ZPlus.class, (r, out) -> out.getZPlusBuilder());
    rule(
        Rule.AlphaBeta.class,
        (r, out) -> {
          set(r.alpha(), out.getAlphaBetaBuilder()::setAlpha);
          set(r.beta(), out.getAlphaBetaBuilder()::setBeta);
        });
    rule(Rule.Flat.class, (r, out) -> out.getFlatBuilder());
    rule(Rule.ZBox.class, (r, out) -> out.getZBoxBuilder().setLow(r.low()).setHigh(r.high()));
  }

  static lstmexplain.v1.Method encode(Method method) {
    lstmexplain.v1.Method.Builder out = lstmexplain.v1.Method.newBuilder();
    write(METHODS, method, out);
    return out.build();
  }

  /** Null if no method is set, or if this client does not know it. */
  static Method decode(lstmexplain.v1.Method message) {
    return switch (message.getMethodCase()) {
      case LRP -> decode(message.getLrp());
      case GRADIENT -> new Gradient();
      case GRADIENT_TIMES_INPUT -> new GradientTimesInput();
      case INTEGRATED_GRADIENTS -> decode(message.getIntegratedGradients());
      case SMOOTH_GRAD -> decode(message.getSmoothGrad());
      case OCCLUSION -> decode(message.getOcclusion());
      case SHAPLEY_SAMPLING -> decode(message.getShapleySampling());
      case CONTEXTUAL_DECOMPOSITION -> new ContextualDecomposition();
      case METHOD_NOT_SET -> null;
    };
  }

  private static void write(Lrp method, lstmexplain.v1.Method.Builder out) {
    lstmexplain.v1.Lrp.Builder body = out.getLrpBuilder();
    choose(method.productRule(), lstmexplain.v1.ProductRule::valueOf, body::setProductRule);
    set(method.epsilon(), body::setEpsilon);
    set(method.biasFactor(), body::setBiasFactor);
    if (method.composite() != null) {
      lstmexplain.v1.Composite.Builder composite = body.getCompositeBuilder();
      method.composite().rules().forEach((key, rule) -> composite.putRules(key, encode(rule)));
      set(method.composite().first(), rule -> composite.setFirst(encode(rule)));
    }
  }

  private static Lrp decode(lstmexplain.v1.Lrp body) {
    Composite composite = null;
    if (body.hasComposite()) {
      Map<String, Rule> rules = new LinkedHashMap<>();
      body.getComposite().getRulesMap().forEach((key, rule) -> rules.put(key, decode(rule)));
      rules.values().removeIf(rule -> rule == null);
      composite = new Composite(rules, decode(body.getComposite().getFirst()));
    }
    return new Lrp(
        constant(ProductRule.class, body.getProductRule()),
        body.hasEpsilon() ? body.getEpsilon() : null,
        body.hasBiasFactor() ? body.getBiasFactor() : null,
        composite);
  }

  private static void write(IntegratedGradients method, lstmexplain.v1.Method.Builder out) {
    lstmexplain.v1.IntegratedGradients.Builder body = out.getIntegratedGradientsBuilder();
    set(method.steps(), body::setSteps);
    body.addAllBaseline(Wire.encode(method.baseline()));
  }

  private static IntegratedGradients decode(lstmexplain.v1.IntegratedGradients body) {
    return new IntegratedGradients(
        body.hasSteps() ? body.getSteps() : null, Wire.decode(body.getBaselineList()));
  }

  private static void write(SmoothGrad method, lstmexplain.v1.Method.Builder out) {
    lstmexplain.v1.SmoothGrad.Builder body = out.getSmoothGradBuilder();
    set(method.samples(), body::setSamples);
    set(method.noise(), body::setNoise);
    set(method.seed(), body::setSeed);
  }

  private static SmoothGrad decode(lstmexplain.v1.SmoothGrad body) {
    return new SmoothGrad(
        body.hasSamples() ? body.getSamples() : null,
        body.hasNoise() ? body.getNoise() : null,
        body.hasSeed() ? body.getSeed() : null);
  }

  private static void write(Occlusion method, lstmexplain.v1.Method.Builder out) {
    lstmexplain.v1.Occlusion.Builder body = out.getOcclusionBuilder();
    set(method.window(), body::setWindow);
    body.addAllBaseline(Wire.encode(method.baseline()));
    choose(method.of(), lstmexplain.v1.Quantity::valueOf, body::setOf);
  }

  private static Occlusion decode(lstmexplain.v1.Occlusion body) {
    return new Occlusion(
        body.hasWindow() ? body.getWindow() : null,
        Wire.decode(body.getBaselineList()),
        constant(Quantity.class, body.getOf()));
  }

  private static void write(ShapleySampling method, lstmexplain.v1.Method.Builder out) {
    lstmexplain.v1.ShapleySampling.Builder body = out.getShapleySamplingBuilder();
    set(method.permutations(), body::setPermutations);
    set(method.seed(), body::setSeed);
    body.addAllBaseline(Wire.encode(method.baseline()));
    choose(method.over(), lstmexplain.v1.Players::valueOf, body::setOver);
  }

  private static ShapleySampling decode(lstmexplain.v1.ShapleySampling body) {
    return new ShapleySampling(
        body.hasPermutations() ? body.getPermutations() : null,
        body.hasSeed() ? body.getSeed() : null,
        Wire.decode(body.getBaselineList()),
        constant(Players.class, body.getOver()));
  }

  private static lstmexplain.v1.Rule encode(Rule rule) {
    lstmexplain.v1.Rule.Builder out = lstmexplain.v1.Rule.newBuilder();
    write(RULES, rule, out);
    return out.build();
  }

  private static Rule decode(lstmexplain.v1.Rule message) {
    return switch (message.getRuleCase()) {
      case EPSILON ->
          new Rule.Epsilon(
              message.getEpsilon().hasEpsilon() ? message.getEpsilon().getEpsilon() : null);
      case GAMMA ->
          new Rule.Gamma(message.getGamma().hasGamma() ? message.getGamma().getGamma() : null);
      case Z_PLUS -> new Rule.ZPlus();
      case ALPHA_BETA ->
          new Rule.AlphaBeta(
              message.getAlphaBeta().hasAlpha() ? message.getAlphaBeta().getAlpha() : null,
              message.getAlphaBeta().hasBeta() ? message.getAlphaBeta().getBeta() : null);
      case FLAT -> new Rule.Flat();
      case Z_BOX -> new Rule.ZBox(message.getZBox().getLow(), message.getZBox().getHigh());
      case RULE_NOT_SET -> null;
    };
  }

  private static <T extends Method> void method(
      Class<T> kind, Encoder<T, lstmexplain.v1.Method.Builder> encoder) {
    METHODS.put(kind, encoder);
  }

  private static <T extends Rule> void rule(
      Class<T> kind, Encoder<T, lstmexplain.v1.Rule.Builder> encoder) {
    RULES.put(kind, encoder);
  }

  @SuppressWarnings("unchecked") // method() and rule() put each class with its own encoder
  private static <T, B> void write(Map<Class<?>, Encoder<?, B>> table, T value, B out) {
    ((Encoder<T, B>) table.get(value.getClass())).write(value, out);
  }

  private static <T> void set(T value, Consumer<T> setter) {
    if (value != null) {
      setter.accept(value);
    }
  }

  private static <E extends Enum<E>, W> void choose(
      E value, Function<String, W> byName, Consumer<W> setter) {
    if (value != null) {
      setter.accept(byName.apply(Wire.name(value)));
    }
  }
}

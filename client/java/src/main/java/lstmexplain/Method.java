package lstmexplain;

import java.util.Map;
import java.util.Objects;

/**
 * How relevance is computed. For a parameter that is null, the server uses its default.
 *
 * <pre>{@code
 * new Method.Lrp().productRule(Method.ProductRule.HALF).epsilon(0.01)
 * }</pre>
 */
public sealed interface Method {

  /** How a gate and its signal share the relevance of their product. */
  enum ProductRule {
    /** "Signal takes all": the signal receives all relevance, the gate none (the default). */
    ALL,
    /** Gate and signal receive one half each. */
    HALF,
    /** Gate and signal share relevance in proportion to their values. */
    PROP,
    /** Gate and signal share relevance in proportion to their absolute values. */
    ABS
  }

  /** The quantity whose change Occlusion measures. */
  enum Quantity {
    /** The explained value (the default). */
    SCORE,
    /** The output after Softmax or Sigmoid. */
    PROBABILITY
  }

  /** The parts of the input that receive Shapley values. */
  enum Players {
    /** Time steps (the default). */
    STEPS,
    /** Features, each over all time steps. */
    FEATURES,
    /** Every feature of every time step. */
    CELLS
  }

  /**
   * Layer-wise relevance propagation with the epsilon rule (Arras et al. 2017, 2019).
   *
   * @param productRule default: ALL
   * @param epsilon the stabiliser; must not be negative; default 0.001
   * @param biasFactor the share of the relevance of bias and stabiliser that is distributed to the
   *     inputs of a sum, in [0, 1]; default 0
   * @param composite different rules for some dense and convolutional layers; default: none
   */
  record Lrp(ProductRule productRule, Double epsilon, Double biasFactor, Composite composite)
      implements Method {

    /** Creates the method with the defaults of the server. */
    public Lrp() {
      this(null, null, null, null);
    }

    /** Returns a copy with this product rule. */
    public Lrp productRule(ProductRule rule) {
      return new Lrp(rule, epsilon, biasFactor, composite);
    }

    /** Returns a copy with this stabiliser. */
    public Lrp epsilon(double value) {
      return new Lrp(productRule, value, biasFactor, composite);
    }

    /** Returns a copy with this share of the bias. */
    public Lrp biasFactor(double value) {
      return new Lrp(productRule, epsilon, value, composite);
    }

    /** Returns a copy with these rules per layer. */
    public Lrp composite(Composite rules) {
      return new Lrp(productRule, epsilon, biasFactor, rules);
    }
  }

  /**
   * LRP rules per layer (Anders et al. 2021).
   *
   * @param rules by the name of a node, of an operator (Gemm), or of a kind of layer (dense,
   *     convolution)
   * @param first the rule for layers that read the input before any other layer does; or null
   */
  record Composite(Map<String, Rule> rules, Rule first) {
    /** Copies the rules. */
    public Composite {
      rules = Wire.copy(rules);
    }
  }

  /** The partial derivatives of the explained value. */
  record Gradient() implements Method {}

  /** The partial derivatives times the input. */
  record GradientTimesInput() implements Method {}

  /**
   * Gradients averaged along the line from a baseline to the input (Sundararajan et al. 2017).
   *
   * @param steps the number of points on the line; default 50
   * @param baseline the baseline of each input, by name; the default is zero
   */
  record IntegratedGradients(Integer steps, Map<String, Tensor> baseline) implements Method {
    /** Copies the baseline. */
    public IntegratedGradients {
      baseline = Wire.copy(baseline);
    }

    /** Creates the method with the defaults of the server. */
    public IntegratedGradients() {
      this(null, Map.of());
    }

    /** Returns a copy with this number of steps. */
    public IntegratedGradients steps(int count) {
      return new IntegratedGradients(count, baseline);
    }

    /** Returns a copy with this starting point. */
    public IntegratedGradients baseline(Map<String, Tensor> byInput) {
      return new IntegratedGradients(steps, byInput);
    }
  }

  /**
   * Gradients averaged over noisy copies of the input (Smilkov et al. 2017).
   *
   * @param samples the number of noisy copies; default 25
   * @param noise the standard deviation of the noise, as a fraction of the range of the input;
   *     default 0.1
   * @param seed the seed of the random number generator; default 0
   */
  record SmoothGrad(Integer samples, Double noise, Long seed) implements Method {
    /** Creates the method with the defaults of the server. */
    public SmoothGrad() {
      this(null, null, null);
    }

    /** Returns a copy with this number of copies. */
    public SmoothGrad samples(int count) {
      return new SmoothGrad(count, noise, seed);
    }

    /** Returns a copy with this noise. */
    public SmoothGrad noise(double share) {
      return new SmoothGrad(samples, share, seed);
    }

    /** Returns a copy with this seed. */
    public SmoothGrad seed(long value) {
      return new SmoothGrad(samples, noise, value);
    }
  }

  /**
   * How much the explained value decreases when a baseline replaces time steps.
   *
   * @param window the number of time steps that are replaced together; default 1
   * @param baseline the baseline of each input, by name; the default is zero
   * @param of the quantity whose decrease is measured; default: SCORE
   */
  record Occlusion(Integer window, Map<String, Tensor> baseline, Quantity of) implements Method {
    /** Copies the baseline. */
    public Occlusion {
      baseline = Wire.copy(baseline);
    }

    /** Creates the method with the defaults of the server. */
    public Occlusion() {
      this(null, Map.of(), null);
    }

    /** Returns a copy that replaces this number of steps together. */
    public Occlusion window(int steps) {
      return new Occlusion(steps, baseline, of);
    }

    /** Returns a copy with these replacements. */
    public Occlusion baseline(Map<String, Tensor> byInput) {
      return new Occlusion(window, byInput, of);
    }

    /** Returns a copy that measures this quantity. */
    public Occlusion of(Quantity quantity) {
      return new Occlusion(window, baseline, quantity);
    }
  }

  /**
   * Shapley values, estimated over random permutations.
   *
   * @param permutations the number of permutations; default 25
   * @param seed the seed of the random number generator; default 0
   * @param baseline the value of absent players, by input name; the default is zero
   * @param over the players; default: STEPS
   */
  record ShapleySampling(
      Integer permutations, Long seed, Map<String, Tensor> baseline, Players over)
      implements Method {
    /** Copies the baseline. */
    public ShapleySampling {
      baseline = Wire.copy(baseline);
    }

    /** Creates the method with the defaults of the server. */
    public ShapleySampling() {
      this(null, null, Map.of(), null);
    }

    /** Returns a copy with this number of permutations. */
    public ShapleySampling permutations(int count) {
      return new ShapleySampling(count, seed, baseline, over);
    }

    /** Returns a copy with this seed. */
    public ShapleySampling seed(long value) {
      return new ShapleySampling(permutations, value, baseline, over);
    }

    /** Returns a copy with these values for absent players. */
    public ShapleySampling baseline(Map<String, Tensor> byInput) {
      return new ShapleySampling(permutations, seed, byInput, over);
    }

    /** Returns a copy with these players. */
    public ShapleySampling over(Players players) {
      return new ShapleySampling(permutations, seed, baseline, players);
    }
  }

  /** Contextual decomposition of LSTMs (Murdoch et al. 2018). */
  record ContextualDecomposition() implements Method {}

  /**
   * The share of the relevance of a layer's output that an input receives, for {@link Composite}.
   */
  sealed interface Rule {
    /**
     * The epsilon rule with its own stabiliser.
     *
     * @param epsilon the stabiliser; must not be negative; default 1e-6
     */
    record Epsilon(Double epsilon) implements Rule {}

    /**
     * Increases contributions that have the sign of the output.
     *
     * @param gamma must not be negative; default 0.25
     */
    record Gamma(Double gamma) implements Rule {}

    /** Uses positive contributions only. */
    record ZPlus() implements Rule {}

    /**
     * Alpha times the positive share minus beta times the negative share.
     *
     * @param alpha must be beta plus one; default 2
     * @param beta must not be negative; default 1
     */
    record AlphaBeta(Double alpha, Double beta) implements Rule {}

    /** Distributes relevance in equal shares. */
    record Flat() implements Rule {}

    /**
     * For inputs between two bounds.
     *
     * @param low the lower bound
     * @param high the upper bound
     */
    record ZBox(Double low, Double high) implements Rule {
      /** Requires both bounds. */
      public ZBox {
        Objects.requireNonNull(low, "low");
        Objects.requireNonNull(high, "high");
      }
    }
  }
}

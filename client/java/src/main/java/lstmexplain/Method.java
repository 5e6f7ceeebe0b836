package lstmexplain;

import java.util.Map;
import java.util.Objects;

/**
 * How relevance is computed. A parameter that is null takes the server's default.
 *
 * <pre>{@code
 * new Method.Lrp().productRule(Method.ProductRule.HALF).epsilon(0.01)
 * }</pre>
 */
public sealed interface Method {

  /** What a gate and its signal receive of the relevance of their product. */
  enum ProductRule {
    /** "Signal takes all": the gate receives nothing (the default). */
    ALL,
    /** One half each. */
    HALF,
    /** In proportion to the two values. */
    PROP,
    /** In proportion to the two absolute values. */
    ABS
  }

  /** What an occlusion lowers. */
  enum Quantity {
    /** The explained value (the default). */
    SCORE,
    /** The output after Softmax or Sigmoid. */
    PROBABILITY
  }

  /** Between whom a Shapley value is shared. */
  enum Players {
    /** Time steps (the default). */
    STEPS,
    /** Features, each for all of time. */
    FEATURES,
    /** Every feature of every time step. */
    CELLS
  }

  /**
   * Layer-wise relevance propagation with the epsilon rule (Arras et al. 2017, 2019).
   *
   * @param productRule default: ALL
   * @param epsilon the stabiliser, not negative; default 0.001
   * @param biasFactor the share of bias and stabiliser given to a sum's inputs, in [0, 1]; default
   *     0
   * @param composite other rules for some dense and convolutional layers; default: none
   */
  record Lrp(ProductRule productRule, Double epsilon, Double biasFactor, Composite composite)
      implements Method {

    /** With the server's defaults. */
    public Lrp() {
      this(null, null, null, null);
    }

    /** The same with another product rule. */
    public Lrp productRule(ProductRule rule) {
      return new Lrp(rule, epsilon, biasFactor, composite);
    }

    /** The same with another stabiliser. */
    public Lrp epsilon(double value) {
      return new Lrp(productRule, value, biasFactor, composite);
    }

    /** The same with another share of the bias. */
    public Lrp biasFactor(double value) {
      return new Lrp(productRule, epsilon, value, composite);
    }

    /** The same with rules by layer. */
    public Lrp composite(Composite rules) {
      return new Lrp(productRule, epsilon, biasFactor, rules);
    }
  }

  /**
   * Rules of LRP by layer (Anders et al. 2021).
   *
   * @param rules by a node's name, an operator (Gemm), or a kind of layer (dense, convolution)
   * @param first for the layers that see the input before any other layer does; or null
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
   * @param steps points on the line; default 50
   * @param baseline by input; zero where there is none
   */
  record IntegratedGradients(Integer steps, Map<String, Tensor> baseline) implements Method {
    /** Copies the baseline. */
    public IntegratedGradients {
      baseline = Wire.copy(baseline);
    }

    /** With the server's defaults. */
    public IntegratedGradients() {
      this(null, Map.of());
    }

    /** The same with so many steps. */
    public IntegratedGradients steps(int count) {
      return new IntegratedGradients(count, baseline);
    }

    /** The same from another starting point. */
    public IntegratedGradients baseline(Map<String, Tensor> byInput) {
      return new IntegratedGradients(steps, byInput);
    }
  }

  /**
   * Gradients averaged over noisy copies of the input (Smilkov et al. 2017).
   *
   * @param samples noisy copies; default 25
   * @param noise its standard deviation as a share of the input's range; default 0.1
   * @param seed default 0
   */
  record SmoothGrad(Integer samples, Double noise, Long seed) implements Method {
    /** With the server's defaults. */
    public SmoothGrad() {
      this(null, null, null);
    }

    /** The same with so many copies. */
    public SmoothGrad samples(int count) {
      return new SmoothGrad(count, noise, seed);
    }

    /** The same with another noise. */
    public SmoothGrad noise(double share) {
      return new SmoothGrad(samples, share, seed);
    }

    /** The same with another seed. */
    public SmoothGrad seed(long value) {
      return new SmoothGrad(samples, noise, value);
    }
  }

  /**
   * The fall of the explained value when time steps are replaced by a baseline.
   *
   * @param window how many time steps are replaced together; default 1
   * @param baseline by input; zero where there is none
   * @param of the value whose fall is taken; default: SCORE
   */
  record Occlusion(Integer window, Map<String, Tensor> baseline, Quantity of) implements Method {
    /** Copies the baseline. */
    public Occlusion {
      baseline = Wire.copy(baseline);
    }

    /** With the server's defaults. */
    public Occlusion() {
      this(null, Map.of(), null);
    }

    /** The same with so many steps at once. */
    public Occlusion window(int steps) {
      return new Occlusion(steps, baseline, of);
    }

    /** The same with other replacements. */
    public Occlusion baseline(Map<String, Tensor> byInput) {
      return new Occlusion(window, byInput, of);
    }

    /** The same of another value. */
    public Occlusion of(Quantity quantity) {
      return new Occlusion(window, baseline, quantity);
    }
  }

  /**
   * Shapley values, estimated over random orders.
   *
   * @param permutations orders drawn; default 25
   * @param seed default 0
   * @param baseline what stands for an absent player, by input; zero where there is none
   * @param over who plays; default: STEPS
   */
  record ShapleySampling(
      Integer permutations, Long seed, Map<String, Tensor> baseline, Players over)
      implements Method {
    /** Copies the baseline. */
    public ShapleySampling {
      baseline = Wire.copy(baseline);
    }

    /** With the server's defaults. */
    public ShapleySampling() {
      this(null, null, Map.of(), null);
    }

    /** The same with so many orders. */
    public ShapleySampling permutations(int count) {
      return new ShapleySampling(count, seed, baseline, over);
    }

    /** The same with another seed. */
    public ShapleySampling seed(long value) {
      return new ShapleySampling(permutations, value, baseline, over);
    }

    /** The same with other stand-ins. */
    public ShapleySampling baseline(Map<String, Tensor> byInput) {
      return new ShapleySampling(permutations, seed, byInput, over);
    }

    /** The same with other players. */
    public ShapleySampling over(Players players) {
      return new ShapleySampling(permutations, seed, baseline, players);
    }
  }

  /** Contextual decomposition of LSTMs (Murdoch et al. 2018). */
  record ContextualDecomposition() implements Method {}

  /** What an input of a layer gets of the relevance of its output, for {@link Composite}. */
  sealed interface Rule {
    /**
     * LRP's own rule with another stabiliser.
     *
     * @param epsilon not negative; default 1e-6
     */
    record Epsilon(Double epsilon) implements Rule {}

    /**
     * Raises contributions of the output's sign.
     *
     * @param gamma not negative; default 0.25
     */
    record Gamma(Double gamma) implements Rule {}

    /** Positive contributions only. */
    record ZPlus() implements Rule {}

    /**
     * Alpha times the positive share less beta times the negative one.
     *
     * @param alpha beta and one; default 2
     * @param beta not negative; default 1
     */
    record AlphaBeta(Double alpha, Double beta) implements Rule {}

    /** Equal shares. */
    record Flat() implements Rule {}

    /**
     * For inputs between two bounds.
     *
     * @param low the lower bound
     * @param high the upper bound
     */
    record ZBox(Double low, Double high) implements Rule {
      /** Wants both bounds. */
      public ZBox {
        Objects.requireNonNull(low, "low");
        Objects.requireNonNull(high, "high");
      }
    }
  }
}

// Generated from proto/lstm_explain/v1/method.proto and the server's registry by `make proto`; do not edit.
package lstmexplain;

import java.util.Map;

/**
 * How to compute relevance. A request without a method uses the default of the model (model.yaml).
 * If model.yaml has no default, the request uses LRP with its default parameters. Where a request
 * names the default method of the model, its parameters that are unset are those of the model. For
 * a parameter that is null, the server uses its default.
 *
 * <pre>{@code
 * new Method.Lrp().productRule(Method.ProductRule.HALF).epsilon(0.01)
 * }</pre>
 */
public sealed interface Method {

  /**
   * How a gate and its signal share the relevance of their product (Arras et al. 2019, arXiv
   * 1909.12114).
   */
  enum ProductRule {
    /** "Signal takes all": the signal receives all relevance, the gate none. The default. */
    ALL,
    /** Gate and signal receive one half each. */
    HALF,
    /** Gate and signal share relevance in proportion to their values. */
    PROP,
    /** Gate and signal share relevance in proportion to their absolute values. */
    ABS,
    /**
     * As ALL, except in attention, which has the rules of AttnLRP (Achtibat et al. 2024, arXiv
     * 2402.05602): products of weights and values, and of queries and keys, give each operand one
     * half, and the softmax has a rule of its own.
     */
    ATTN
  }

  /** The quantity whose change Occlusion measures. */
  enum Quantity {
    /** The explained value. The default. */
    SCORE,
    /** The output itself if it ends in Softmax or Sigmoid; otherwise its Softmax. */
    PROBABILITY
  }

  /** The units of the input that Occlusion, ShapleySampling and Counterfactual replace. */
  enum Players {
    /** Time steps. The default. */
    STEPS,
    /** Features, each over all time steps. */
    FEATURES,
    /** Every feature of every time step. */
    CELLS,
    /** The groups of the request, which take the place of any other units. */
    GROUPS
  }

  /**
   * The share of the relevance of output j of a layer that its input i receives. Recurrent layers
   * accept only Epsilon.
   */
  sealed interface Rule {

    /**
     * x_i w_ij divided by the stabilised sum (Bach et al. 2015, equation 58).
     *
     * @param epsilon The stabiliser. Must not be negative. Default: 1e-6.
     */
    record Epsilon(Double epsilon) implements Rule {
      /** Leaves every parameter to the server. */
      public Epsilon() {
        this(null);
      }

      /** Returns the same with another {@code epsilon}. */
      public Epsilon epsilon(double value) {
        return new Epsilon(value);
      }
    }

    /**
     * As Epsilon, but contributions with the sign of the output are increased by the factor gamma
     * (Montavon et al. 2019, section 10.2.3).
     *
     * @param gamma Must not be negative. Default: 0.25.
     */
    record Gamma(Double gamma) implements Rule {
      /** Leaves every parameter to the server. */
      public Gamma() {
        this(null);
      }

      /** Returns the same with another {@code gamma}. */
      public Gamma gamma(double value) {
        return new Gamma(value);
      }
    }

    /** Uses positive contributions only (Montavon et al. 2017, equation 12). */
    record ZPlus() implements Rule {}

    /**
     * alpha times the positive share minus beta times the negative share (Bach et al. 2015,
     * equation 60).
     *
     * @param alpha alpha - beta must be 1. Default: 2.
     * @param beta Must not be negative. Default: 1.
     */
    record AlphaBeta(Double alpha, Double beta) implements Rule {
      /** Leaves every parameter to the server. */
      public AlphaBeta() {
        this(null, null);
      }

      /** Returns the same with another {@code alpha}. */
      public AlphaBeta alpha(double value) {
        return new AlphaBeta(value, beta);
      }

      /** Returns the same with another {@code beta}. */
      public AlphaBeta beta(double value) {
        return new AlphaBeta(alpha, value);
      }
    }

    /** Distributes relevance in equal shares (Lapuschkin et al. 2019). */
    record Flat() implements Rule {}

    /**
     * For inputs between two bounds: x_i w_ij - low w_ij+ - high w_ij-, divided by the sum of these
     * terms (Montavon et al. 2017, section 5.3).
     *
     * @param low Lower bound of all inputs. Required.
     * @param high Upper bound of all inputs, greater than {@code low}. Required.
     */
    record ZBox(double low, double high) implements Rule {

      /** Returns the same with another {@code low}. */
      public ZBox low(double value) {
        return new ZBox(value, high);
      }

      /** Returns the same with another {@code high}. */
      public ZBox high(double value) {
        return new ZBox(low, value);
      }
    }

    /**
     * For inputs without bounds: w_ij^2 divided by the sum of these squares (Montavon et al. 2017).
     */
    record WSquare() implements Rule {}
  }

  /**
   * Rules per layer (Anders et al. 2021, arXiv 2106.13200). Layers without a rule, and all other
   * nodes, use the stabiliser of {@code Lrp}.
   *
   * @param rules The rules by the name of a node, of an operator ({@code Gemm}), or of a kind of
   *     layer ({@code dense}: MatMul, Gemm; {@code convolution}: Conv, ConvTranspose). The name of
   *     a node takes precedence, then {@code first}, the operator, and the kind.
   * @param first The rule for layers that read the input before any other layer does.
   */
  record Composite(Map<String, Rule> rules, Rule first) {
    /** Copies the maps. */
    public Composite {
      rules = Wire.copy(rules);
    }

    /** Leaves every parameter to the server. */
    public Composite() {
      this(Map.of(), null);
    }

    /** Returns the same with another {@code rules}. */
    public Composite rules(Map<String, Rule> value) {
      return new Composite(value, first);
    }

    /** Returns the same with another {@code first}. */
    public Composite first(Rule value) {
      return new Composite(rules, value);
    }
  }

  /**
   * A background set: samples from data that take the place of one baseline. The answer is the mean
   * of the answers against each of the samples that are drawn from the set.
   *
   * @param samples The samples: one tensor per input, by name, with the samples along the first
   *     axis and then the shape of the input without its batch axis. An input without a tensor
   *     keeps its own values and gets no relevance. If empty, the samples of the model ({@code
   *     background.npz} in its folder). Responses omit the samples.
   * @param draws Number of samples that are drawn, without replacement; all of them if the set has
   *     no more. The cost of a request grows in proportion. Default: 20.
   * @param seed Seed of the random number generator that draws them. Default: 0.
   */
  record Background(Map<String, Tensor> samples, Integer draws, Long seed) {
    /** Copies the maps. */
    public Background {
      samples = Wire.copy(samples);
    }

    /** Leaves every parameter to the server. */
    public Background() {
      this(Map.of(), null, null);
    }

    /** Returns the same with another {@code samples}. */
    public Background samples(Map<String, Tensor> value) {
      return new Background(value, draws, seed);
    }

    /** Returns the same with another {@code draws}. */
    public Background draws(int value) {
      return new Background(samples, value, seed);
    }

    /** Returns the same with another {@code seed}. */
    public Background seed(long value) {
      return new Background(samples, draws, value);
    }
  }

  /**
   * Consecutive time steps.
   *
   * @param start The first step, counted from 0. Required.
   * @param end The step after the last one, greater than {@code start}. Required.
   */
  record Span(int start, int end) {

    /** Returns the same with another {@code start}. */
    public Span start(int value) {
      return new Span(value, end);
    }

    /** Returns the same with another {@code end}. */
    public Span end(int value) {
      return new Span(start, value);
    }
  }

  /**
   * Layer-wise relevance propagation (Arras et al. 2017, arXiv 1706.07206, equation 1). Relevance
   * is divided by sums z, which a stabiliser keeps from zero: the relative one, or the absolute
   * {@code epsilon}. The relative one divides by z + beta * (S - |z|) * sign(z), where S is the sum
   * of the absolute terms of z, and has one beta for each kind of sum.
   *
   * @param productRule How a gate and its signal share the relevance of their product (Arras et al.
   *     2019, arXiv 1909.12114). Default: "all".
   * @param epsilon The absolute stabiliser: relevance is divided by z + epsilon * sign(z). Must not
   *     be negative, and excludes the fields of the relative stabiliser: a request that sets one
   *     kind drops the other kind of the model's default. Default: none. The papers use 0.001.
   * @param biasFactor The share of the relevance of the bias and the stabiliser that is distributed
   *     to the inputs of a sum, in [0, 1]. Default: 0, so that bias and stabiliser absorb it.
   * @param composite Different rules for some dense and convolutional layers. Default: none.
   * @param stabiliser The relative stabiliser's beta for the pre-activations of recurrent layers.
   *     Must not be negative. Default: 0.1.
   * @param cellStabiliser Its beta for the sums that carry the state of recurrent layers. Must not
   *     be negative. Default: 0.
   * @param layerStabiliser Its beta for all other layers. Must not be negative. Default: 0.02.
   * @param ceiling The most that the density of relevance (relevance over state) grows on its way
   *     back through the hidden states of a recurrent layer, as a multiple of the density that
   *     arrives from above. At least 1. Default: 10.
   */
  record Lrp(ProductRule productRule, Double epsilon, Double biasFactor, Composite composite, Double
      stabiliser, Double cellStabiliser, Double layerStabiliser, Double ceiling) implements Method {
    /** Leaves every parameter to the server. */
    public Lrp() {
      this(null, null, null, null, null, null, null, null);
    }

    /** Returns the same with another {@code productRule}. */
    public Lrp productRule(ProductRule value) {
      return new Lrp(value, epsilon, biasFactor, composite, stabiliser, cellStabiliser, layerStabiliser, ceiling);
    }

    /** Returns the same with another {@code epsilon}. */
    public Lrp epsilon(double value) {
      return new Lrp(productRule, value, biasFactor, composite, stabiliser, cellStabiliser, layerStabiliser, ceiling);
    }

    /** Returns the same with another {@code biasFactor}. */
    public Lrp biasFactor(double value) {
      return new Lrp(productRule, epsilon, value, composite, stabiliser, cellStabiliser, layerStabiliser, ceiling);
    }

    /** Returns the same with another {@code composite}. */
    public Lrp composite(Composite value) {
      return new Lrp(productRule, epsilon, biasFactor, value, stabiliser, cellStabiliser, layerStabiliser, ceiling);
    }

    /** Returns the same with another {@code stabiliser}. */
    public Lrp stabiliser(double value) {
      return new Lrp(productRule, epsilon, biasFactor, composite, value, cellStabiliser, layerStabiliser, ceiling);
    }

    /** Returns the same with another {@code cellStabiliser}. */
    public Lrp cellStabiliser(double value) {
      return new Lrp(productRule, epsilon, biasFactor, composite, stabiliser, value, layerStabiliser, ceiling);
    }

    /** Returns the same with another {@code layerStabiliser}. */
    public Lrp layerStabiliser(double value) {
      return new Lrp(productRule, epsilon, biasFactor, composite, stabiliser, cellStabiliser, value, ceiling);
    }

    /** Returns the same with another {@code ceiling}. */
    public Lrp ceiling(double value) {
      return new Lrp(productRule, epsilon, biasFactor, composite, stabiliser, cellStabiliser, layerStabiliser, value);
    }
  }

  /** Partial derivatives of the explained value. */
  record Gradient() implements Method {}

  /** Partial derivatives times the input. */
  record GradientTimesInput() implements Method {}

  /**
   * Gradients averaged along the straight line from the baseline to the input (Sundararajan et al.
   * 2017).
   *
   * @param steps Number of points on the line to begin with. Default: 50.
   * @param baseline The starting point: one tensor per input, by name. An input without a tensor
   *     starts at zero. The tensor is broadcast to the shape of the input: it is a scalar, has one
   *     entry per feature, or has the whole shape. For token ids, the tokens whose embeddings are
   *     the starting point.
   * @param maxSteps Points are added until the error of the integral is within 1 % of the explained
   *     value, or until there are this many points; if this is less than {@code steps}, no points
   *     are added. The response contains the number of points in {@code steps_used}. Default: 500.
   * @param background The background set to start from, instead of {@code baseline} (expected
   *     gradients, Erion et al. 2021, arXiv 1906.10670).
   */
  record IntegratedGradients(Integer steps, Map<String, Tensor> baseline, Integer maxSteps,
      Background background) implements Method {
    /** Copies the maps. */
    public IntegratedGradients {
      baseline = Wire.copy(baseline);
    }

    /** Leaves every parameter to the server. */
    public IntegratedGradients() {
      this(null, Map.of(), null, null);
    }

    /** Returns the same with another {@code steps}. */
    public IntegratedGradients steps(int value) {
      return new IntegratedGradients(value, baseline, maxSteps, background);
    }

    /** Returns the same with another {@code baseline}. */
    public IntegratedGradients baseline(Map<String, Tensor> value) {
      return new IntegratedGradients(steps, value, maxSteps, background);
    }

    /** Returns the same with another {@code maxSteps}. */
    public IntegratedGradients maxSteps(int value) {
      return new IntegratedGradients(steps, baseline, value, background);
    }

    /** Returns the same with another {@code background}. */
    public IntegratedGradients background(Background value) {
      return new IntegratedGradients(steps, baseline, maxSteps, value);
    }
  }

  /**
   * Gradients averaged over noisy copies of the input (Smilkov et al. 2017).
   *
   * @param samples Number of noisy copies. Default: 25.
   * @param noise Standard deviation of the noise, as a fraction of the range of each feature over
   *     time. Default: 0.1.
   * @param seed Seed of the random number generator. Default: 0.
   */
  record SmoothGrad(Integer samples, Double noise, Long seed) implements Method {
    /** Leaves every parameter to the server. */
    public SmoothGrad() {
      this(null, null, null);
    }

    /** Returns the same with another {@code samples}. */
    public SmoothGrad samples(int value) {
      return new SmoothGrad(value, noise, seed);
    }

    /** Returns the same with another {@code noise}. */
    public SmoothGrad noise(double value) {
      return new SmoothGrad(samples, value, seed);
    }

    /** Returns the same with another {@code seed}. */
    public SmoothGrad seed(long value) {
      return new SmoothGrad(samples, noise, value);
    }
  }

  /**
   * How much the explained value decreases when a baseline replaces a window of time steps, a
   * feature or a cell.
   *
   * @param window Number of time steps that are replaced together. Must be 1 unless {@code over} is
   *     STEPS. Default: 1.
   * @param baseline The replacement: one tensor per input, by name, that is broadcast to the shape
   *     of the input. The default is zero.
   * @param of The quantity whose decrease is measured. Default: "score".
   * @param over The parts that are replaced. Default: "steps".
   * @param background The background set whose samples replace them, instead of {@code baseline}.
   */
  record Occlusion(Integer window, Map<String, Tensor> baseline, Quantity of, Players over,
      Background background) implements Method {
    /** Copies the maps. */
    public Occlusion {
      baseline = Wire.copy(baseline);
    }

    /** Leaves every parameter to the server. */
    public Occlusion() {
      this(null, Map.of(), null, null, null);
    }

    /** Returns the same with another {@code window}. */
    public Occlusion window(int value) {
      return new Occlusion(value, baseline, of, over, background);
    }

    /** Returns the same with another {@code baseline}. */
    public Occlusion baseline(Map<String, Tensor> value) {
      return new Occlusion(window, value, of, over, background);
    }

    /** Returns the same with another {@code of}. */
    public Occlusion of(Quantity value) {
      return new Occlusion(window, baseline, value, over, background);
    }

    /** Returns the same with another {@code over}. */
    public Occlusion over(Players value) {
      return new Occlusion(window, baseline, of, value, background);
    }

    /** Returns the same with another {@code background}. */
    public Occlusion background(Background value) {
      return new Occlusion(window, baseline, of, over, value);
    }
  }

  /**
   * Shapley values, exact for few players and otherwise estimated over random permutations. Every
   * second permutation is the reverse of the previous one.
   *
   * @param permutations Number of permutations. The samples drawn from a background set share them,
   *     but each has at least four. Default: 25.
   * @param seed Seed of the random number generator. Default: 0.
   * @param baseline The value of absent players: one tensor per input, by name, that is broadcast
   *     to the shape of the input. The default is zero.
   * @param over The players. Default: "steps".
   * @param background The background set whose samples absent players take their values from,
   *     instead of {@code baseline}.
   * @param standardError Permutations are added until no player of any sample has a larger standard
   *     error than this, in units of the explained value, or until there are {@code
   *     max_permutations}, which is a warning. Draws from a background set add an error of their
   *     own, which more permutations do not lower. Default: none, so that no permutations are
   *     added.
   * @param maxPermutations Number of permutations at most, where {@code standard_error} is set.
   *     Default: 1000.
   * @param exactPlayers Up to this many players, the model scores every coalition (2 to the power
   *     of the number of players), and the values are exact. At most 13; 0 for never. Default: 10.
   */
  record ShapleySampling(Integer permutations, Long seed, Map<String, Tensor> baseline, Players
      over, Background background, Double standardError, Integer maxPermutations, Integer
      exactPlayers) implements Method {
    /** Copies the maps. */
    public ShapleySampling {
      baseline = Wire.copy(baseline);
    }

    /** Leaves every parameter to the server. */
    public ShapleySampling() {
      this(null, null, Map.of(), null, null, null, null, null);
    }

    /** Returns the same with another {@code permutations}. */
    public ShapleySampling permutations(int value) {
      return new ShapleySampling(value, seed, baseline, over, background, standardError, maxPermutations, exactPlayers);
    }

    /** Returns the same with another {@code seed}. */
    public ShapleySampling seed(long value) {
      return new ShapleySampling(permutations, value, baseline, over, background, standardError, maxPermutations, exactPlayers);
    }

    /** Returns the same with another {@code baseline}. */
    public ShapleySampling baseline(Map<String, Tensor> value) {
      return new ShapleySampling(permutations, seed, value, over, background, standardError, maxPermutations, exactPlayers);
    }

    /** Returns the same with another {@code over}. */
    public ShapleySampling over(Players value) {
      return new ShapleySampling(permutations, seed, baseline, value, background, standardError, maxPermutations, exactPlayers);
    }

    /** Returns the same with another {@code background}. */
    public ShapleySampling background(Background value) {
      return new ShapleySampling(permutations, seed, baseline, over, value, standardError, maxPermutations, exactPlayers);
    }

    /** Returns the same with another {@code standardError}. */
    public ShapleySampling standardError(double value) {
      return new ShapleySampling(permutations, seed, baseline, over, background, value, maxPermutations, exactPlayers);
    }

    /** Returns the same with another {@code maxPermutations}. */
    public ShapleySampling maxPermutations(int value) {
      return new ShapleySampling(permutations, seed, baseline, over, background, standardError, value, exactPlayers);
    }

    /** Returns the same with another {@code exactPlayers}. */
    public ShapleySampling exactPlayers(int value) {
      return new ShapleySampling(permutations, seed, baseline, over, background, standardError, maxPermutations, value);
    }
  }

  /**
   * Contextual decomposition of LSTMs (Murdoch et al. 2018, arXiv 1801.05453): what each time step
   * contributes by itself.
   *
   * @param span Time steps that are valued as one phrase; every other step is valued by itself.
   *     Must lie within the sequence of every sample. The value of the span is divided equally
   *     among its steps. Default: none.
   */
  record ContextualDecomposition(Span span) implements Method {
    /** Leaves every parameter to the server. */
    public ContextualDecomposition() {
      this(null);
    }

    /** Returns the same with another {@code span}. */
    public ContextualDecomposition span(Span value) {
      return new ContextualDecomposition(value);
    }
  }

  /**
   * Gradients at random points on the line from the baseline to the input, times the difference,
   * averaged: an estimate of integrated gradients with a standard error (Lundberg and Lee 2017,
   * arXiv 1705.07874).
   *
   * @param samples Number of points. The samples drawn from a background set share them, but each
   *     has at least two. Default: 50.
   * @param seed Seed of the random number generator. Default: 0.
   * @param baseline The starting point, as in IntegratedGradients. The default is zero.
   * @param background The background set to start from, instead of {@code baseline}.
   */
  record GradientShap(Integer samples, Long seed, Map<String, Tensor> baseline, Background
      background) implements Method {
    /** Copies the maps. */
    public GradientShap {
      baseline = Wire.copy(baseline);
    }

    /** Leaves every parameter to the server. */
    public GradientShap() {
      this(null, null, Map.of(), null);
    }

    /** Returns the same with another {@code samples}. */
    public GradientShap samples(int value) {
      return new GradientShap(value, seed, baseline, background);
    }

    /** Returns the same with another {@code seed}. */
    public GradientShap seed(long value) {
      return new GradientShap(samples, value, baseline, background);
    }

    /** Returns the same with another {@code baseline}. */
    public GradientShap baseline(Map<String, Tensor> value) {
      return new GradientShap(samples, seed, value, background);
    }

    /** Returns the same with another {@code background}. */
    public GradientShap background(Background value) {
      return new GradientShap(samples, seed, baseline, value);
    }
  }

  /**
   * The fewest time steps, features or cells whose replacement turns the prediction, found greedily
   * in the order of their relevance and checked by the model (after Martens and Provost 2014). The
   * replaced ones have the relevance that the margin regains when they are put back; all others
   * have zero. {@code explained} is the margin: the target's entry minus the largest other one, or
   * the value minus {@code threshold}. The prediction has turned where {@code ledger.absorbed}, the
   * margin of the changed input, has the other sign; where it cannot be turned, no relevance is set
   * and a warning says so. {@code steps_used} is the number of runs of the model.
   *
   * @param most The most units that are replaced. Default: 0, any number.
   * @param maxRuns How often the model may run to put units back that need not be replaced, for
   *     each draw from a background set. Default: 1000.
   * @param threshold The prediction turns where the explained value crosses this number. Default:
   *     none, where another entry of the output becomes the largest, or the logit of an output of
   *     one entry crosses zero.
   * @param baseline The replacement: one tensor per input, by name, that is broadcast to the shape
   *     of the input. The default is zero.
   * @param over The parts that are replaced. Default: "steps".
   * @param background The background set whose samples replace them, instead of {@code baseline}.
   *     Each is tried; the one is kept that needs the fewest units.
   */
  record Counterfactual(Integer most, Integer maxRuns, Double threshold, Map<String, Tensor>
      baseline, Players over, Background background) implements Method {
    /** Copies the maps. */
    public Counterfactual {
      baseline = Wire.copy(baseline);
    }

    /** Leaves every parameter to the server. */
    public Counterfactual() {
      this(null, null, null, Map.of(), null, null);
    }

    /** Returns the same with another {@code most}. */
    public Counterfactual most(int value) {
      return new Counterfactual(value, maxRuns, threshold, baseline, over, background);
    }

    /** Returns the same with another {@code maxRuns}. */
    public Counterfactual maxRuns(int value) {
      return new Counterfactual(most, value, threshold, baseline, over, background);
    }

    /** Returns the same with another {@code threshold}. */
    public Counterfactual threshold(double value) {
      return new Counterfactual(most, maxRuns, value, baseline, over, background);
    }

    /** Returns the same with another {@code baseline}. */
    public Counterfactual baseline(Map<String, Tensor> value) {
      return new Counterfactual(most, maxRuns, threshold, value, over, background);
    }

    /** Returns the same with another {@code over}. */
    public Counterfactual over(Players value) {
      return new Counterfactual(most, maxRuns, threshold, baseline, value, background);
    }

    /** Returns the same with another {@code background}. */
    public Counterfactual background(Background value) {
      return new Counterfactual(most, maxRuns, threshold, baseline, over, value);
    }
  }
}

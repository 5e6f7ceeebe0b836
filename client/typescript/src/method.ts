// Generated from proto/lstm_explain/v1/method.proto and the server's registry by `make proto`; do not edit.

/** The methods as types. A parameter that is left out takes the server's default. */

import { InvalidRequest } from "./errors.js";
import type * as wire from "./generated/lstm_explain/v1/method.js";
import { choice, chosen, mapped, only, whole } from "./parameters.js";
import { allFromWire, allToWire, type TensorLike } from "./tensor.js";

/** Tensors by the name of an input. */
export type Baseline = Record<string, TensorLike>;

/**
 * How a gate and its signal share the relevance of their product (Arras et al. 2019, arXiv 1909.12114).
 * - "all": "Signal takes all": the signal receives all relevance, the gate none. The default.
 * - "half": Gate and signal receive one half each.
 * - "prop": Gate and signal share relevance in proportion to their values.
 * - "abs": Gate and signal share relevance in proportion to their absolute values.
 * - "attn": As ALL, except in attention, which has the rules of AttnLRP (Achtibat et al. 2024, arXiv 2402.05602):
 *   products of weights and values, and of queries and keys, give each operand one half, and the softmax has a rule of
 *   its own.
 */
export type ProductRule = (typeof PRODUCT_RULE_WORDS)[number];
const PRODUCT_RULE_WORDS = ["all", "half", "prop", "abs", "attn"] as const;

/**
 * The quantity whose change Occlusion measures.
 * - "score": The explained value. The default.
 * - "probability": The output itself if it ends in Softmax or Sigmoid; otherwise its Softmax.
 */
export type Quantity = (typeof QUANTITY_WORDS)[number];
const QUANTITY_WORDS = ["score", "probability"] as const;

/**
 * The units of the input that Occlusion, ShapleySampling and Counterfactual replace.
 * - "steps": Time steps. The default.
 * - "features": Features, each over all time steps.
 * - "cells": Every feature of every time step.
 * - "groups": The groups of the request, which take the place of any other units.
 */
export type Players = (typeof PLAYERS_WORDS)[number];
const PLAYERS_WORDS = ["steps", "features", "cells", "groups"] as const;

/**
 * Rules per layer (Anders et al. 2021, arXiv 2106.13200). Layers without a rule, and all other nodes, use the
 * stabiliser of `Lrp`.
 */
export interface Composite {
  /**
   * The rules by the name of a node, of an operator (`Gemm`), or of a kind of layer (`dense`: MatMul, Gemm;
   * `convolution`: Conv, ConvTranspose). The name of a node takes precedence, then `first`, the operator, and the kind.
   */
  rules: Record<string, Rule>;
  /** The rule for layers that read the input before any other layer does. */
  first?: Rule;
}

/**
 * A background set: samples from data that take the place of one baseline. The answer is the mean of the answers
 * against each of the samples that are drawn from the set.
 */
export interface Background {
  /**
   * The samples: one tensor per input, by name, with the samples along the first axis and then the shape of the input
   * without its batch axis. An input without a tensor keeps its own values and gets no relevance. If empty, the samples
   * of the model (`background.npz` in its folder). Responses omit the samples.
   */
  samples?: Baseline;
  /**
   * Number of samples that are drawn, without replacement; all of them if the set has no more. The cost of a request
   * grows in proportion. Default: 20.
   */
  draws?: number;
  /** Seed of the random number generator that draws them. Default: 0. */
  seed?: number | bigint;
}

/** Consecutive time steps. */
export interface Span {
  /** The first step, counted from 0. Required. */
  start: number;
  /** The step after the last one, greater than `start`. Required. */
  end: number;
}

/**
 * Layer-wise relevance propagation (Arras et al. 2017, arXiv 1706.07206, equation 1). Relevance is divided by sums z,
 * which a stabiliser keeps from zero: the relative one, or the absolute `epsilon`. The relative one divides by z + beta
 * * (S - |z|) * sign(z), where S is the sum of the absolute terms of z, and has one beta for each kind of sum.
 */
export interface Lrp {
  name: "lrp";
  /**
   * How a gate and its signal share the relevance of their product (Arras et al. 2019, arXiv 1909.12114). Default:
   * "all".
   */
  productRule?: ProductRule;
  /**
   * The absolute stabiliser: relevance is divided by z + epsilon * sign(z). Must not be negative, and excludes the
   * fields of the relative stabiliser: a request that sets one kind drops the other kind of the model's default.
   * Default: none. The papers use 0.001.
   */
  epsilon?: number;
  /**
   * The share of the relevance of the bias and the stabiliser that is distributed to the inputs of a sum, in [0, 1].
   * Default: 0, so that bias and stabiliser absorb it.
   */
  biasFactor?: number;
  /** Different rules for some dense and convolutional layers. Default: none. */
  composite?: Composite;
  /** The relative stabiliser's beta for the pre-activations of recurrent layers. Must not be negative. Default: 0.1. */
  stabiliser?: number;
  /** Its beta for the sums that carry the state of recurrent layers. Must not be negative. Default: 0. */
  cellStabiliser?: number;
  /** Its beta for all other layers. Must not be negative. Default: 0.02. */
  layerStabiliser?: number;
  /**
   * The most that the density of relevance (relevance over state) grows on its way back through the hidden states of a
   * recurrent layer, as a multiple of the density that arrives from above. At least 1. Default: 10.
   */
  ceiling?: number;
}

/** Partial derivatives of the explained value. */
export interface Gradient {
  name: "gradient";
}

/** Partial derivatives times the input. */
export interface GradientTimesInput {
  name: "gradientTimesInput";
}

/** Gradients averaged along the straight line from the baseline to the input (Sundararajan et al. 2017). */
export interface IntegratedGradients {
  name: "integratedGradients";
  /** Number of points on the line to begin with. Default: 50. */
  steps?: number;
  /**
   * The starting point: one tensor per input, by name. An input without a tensor starts at zero. The tensor is
   * broadcast to the shape of the input: it is a scalar, has one entry per feature, or has the whole shape. For token
   * ids, the tokens whose embeddings are the starting point.
   */
  baseline?: Baseline;
  /**
   * Points are added until the error of the integral is within 1 % of the explained value, or until there are this many
   * points; if this is less than `steps`, no points are added. The response contains the number of points in
   * `steps_used`. Default: 500.
   */
  maxSteps?: number;
  /**
   * The background set to start from, instead of `baseline` (expected gradients, Erion et al. 2021, arXiv 1906.10670).
   */
  background?: Background;
}

/** Gradients averaged over noisy copies of the input (Smilkov et al. 2017). */
export interface SmoothGrad {
  name: "smoothGrad";
  /** Number of noisy copies. Default: 25. */
  samples?: number;
  /** Standard deviation of the noise, as a fraction of the range of each feature over time. Default: 0.1. */
  noise?: number;
  /** Seed of the random number generator. Default: 0. */
  seed?: number | bigint;
}

/** How much the explained value decreases when a baseline replaces a window of time steps, a feature or a cell. */
export interface Occlusion {
  name: "occlusion";
  /** Number of time steps that are replaced together. Must be 1 unless `over` is STEPS. Default: 1. */
  window?: number;
  /**
   * The replacement: one tensor per input, by name, that is broadcast to the shape of the input. The default is zero.
   */
  baseline?: Baseline;
  /** The quantity whose decrease is measured. Default: "score". */
  of?: Quantity;
  /** The parts that are replaced. Default: "steps". */
  over?: Players;
  /** The background set whose samples replace them, instead of `baseline`. */
  background?: Background;
}

/**
 * Shapley values, exact for few players and otherwise estimated over random permutations. Every second permutation is
 * the reverse of the previous one.
 */
export interface ShapleySampling {
  name: "shapleySampling";
  /**
   * Number of permutations. The samples drawn from a background set share them, but each has at least four. Default:
   * 25.
   */
  permutations?: number;
  /** Seed of the random number generator. Default: 0. */
  seed?: number | bigint;
  /**
   * The value of absent players: one tensor per input, by name, that is broadcast to the shape of the input. The
   * default is zero.
   */
  baseline?: Baseline;
  /** The players. Default: "steps". */
  over?: Players;
  /** The background set whose samples absent players take their values from, instead of `baseline`. */
  background?: Background;
  /**
   * Permutations are added until no player of any sample has a larger standard error than this, in units of the
   * explained value, or until there are `max_permutations`, which is a warning. Draws from a background set add an
   * error of their own, which more permutations do not lower. Default: none, so that no permutations are added.
   */
  standardError?: number;
  /** Number of permutations at most, where `standard_error` is set. Default: 1000. */
  maxPermutations?: number;
  /**
   * Up to this many players, the model scores every coalition (2 to the power of the number of players), and the values
   * are exact. At most 13; 0 for never. Default: 10.
   */
  exactPlayers?: number;
}

/**
 * Contextual decomposition of LSTMs (Murdoch et al. 2018, arXiv 1801.05453): what each time step contributes by itself.
 */
export interface ContextualDecomposition {
  name: "contextualDecomposition";
  /**
   * Time steps that are valued as one phrase; every other step is valued by itself. Must lie within the sequence of
   * every sample. The value of the span is divided equally among its steps. Default: none.
   */
  span?: Span;
}

/**
 * Gradients at random points on the line from the baseline to the input, times the difference, averaged: an estimate of
 * integrated gradients with a standard error (Lundberg and Lee 2017, arXiv 1705.07874).
 */
export interface GradientShap {
  name: "gradientShap";
  /** Number of points. The samples drawn from a background set share them, but each has at least two. Default: 50. */
  samples?: number;
  /** Seed of the random number generator. Default: 0. */
  seed?: number | bigint;
  /** The starting point, as in IntegratedGradients. The default is zero. */
  baseline?: Baseline;
  /** The background set to start from, instead of `baseline`. */
  background?: Background;
}

/**
 * The fewest time steps, features or cells whose replacement turns the prediction, found greedily in the order of their
 * relevance and checked by the model (after Martens and Provost 2014). The replaced ones have the relevance that the
 * margin regains when they are put back; all others have zero. `explained` is the margin: the target's entry minus the
 * largest other one, or the value minus `threshold`. The prediction has turned where `ledger.absorbed`, the margin of
 * the changed input, has the other sign; where it cannot be turned, no relevance is set and a warning says so.
 * `steps_used` is the number of runs of the model.
 */
export interface Counterfactual {
  name: "counterfactual";
  /** The most units that are replaced. Default: 0, any number. */
  most?: number;
  /**
   * How often the model may run to put units back that need not be replaced, for each draw from a background set.
   * Default: 1000.
   */
  maxRuns?: number;
  /**
   * The prediction turns where the explained value crosses this number. Default: none, where another entry of the
   * output becomes the largest, or the logit of an output of one entry crosses zero.
   */
  threshold?: number;
  /**
   * The replacement: one tensor per input, by name, that is broadcast to the shape of the input. The default is zero.
   */
  baseline?: Baseline;
  /** The parts that are replaced. Default: "steps". */
  over?: Players;
  /**
   * The background set whose samples replace them, instead of `baseline`. Each is tried; the one is kept that needs the
   * fewest units.
   */
  background?: Background;
}

/**
 * The share of the relevance of output j of a layer that its input i receives. Recurrent layers accept only Epsilon.
 */
export type Rule =
  // x_i w_ij divided by the stabilised sum (Bach et al. 2015, equation 58).
  | { name: "epsilon"; epsilon?: number }
  // As Epsilon, but contributions with the sign of the output are increased by the factor gamma (Montavon et al. 2019,
  // section 10.2.3).
  | { name: "gamma"; gamma?: number }
  // Uses positive contributions only (Montavon et al. 2017, equation 12).
  | { name: "zPlus" }
  // alpha times the positive share minus beta times the negative share (Bach et al. 2015, equation 60).
  | { name: "alphaBeta"; alpha?: number; beta?: number }
  // Distributes relevance in equal shares (Lapuschkin et al. 2019).
  | { name: "flat" }
  // For inputs between two bounds: x_i w_ij - low w_ij+ - high w_ij-, divided by the sum of these terms (Montavon et
  // al. 2017, section 5.3).
  | { name: "zBox"; low: number; high: number }
  // For inputs without bounds: w_ij^2 divided by the sum of these squares (Montavon et al. 2017).
  | { name: "wSquare" };

/** The message of a rule. */
function ruleToWire(rule: Rule): wire.Rule {
  switch (rule.name) {
    case "epsilon":
      only(rule, ["name", "epsilon"], "method.epsilon");
      return { rule: { $case: "epsilon", value: { epsilon: rule.epsilon } } };
    case "gamma":
      only(rule, ["name", "gamma"], "method.gamma");
      return { rule: { $case: "gamma", value: { gamma: rule.gamma } } };
    case "zPlus":
      only(rule, ["name"], "method.zPlus");
      return { rule: { $case: "zPlus", value: {} } };
    case "alphaBeta":
      only(rule, ["name", "alpha", "beta"], "method.alphaBeta");
      return { rule: { $case: "alphaBeta", value: { alpha: rule.alpha, beta: rule.beta } } };
    case "flat":
      only(rule, ["name"], "method.flat");
      return { rule: { $case: "flat", value: {} } };
    case "zBox":
      only(rule, ["name", "low", "high"], "method.zBox");
      return { rule: { $case: "zBox", value: { low: rule.low, high: rule.high } } };
    case "wSquare":
      only(rule, ["name"], "method.wSquare");
      return { rule: { $case: "wSquare", value: {} } };
    default:
      throw new InvalidRequest(`there is no rule "${(rule as { name: unknown }).name}"`, { field: "method" });
  }
}

/** The rule of a message; undefined where there is none, or one that this client does not know. */
function ruleFromWire(message: wire.Rule | undefined): Rule | undefined {
  const said = message?.rule;
  switch (said?.$case) {
    case "epsilon":
      return {
        name: "epsilon",
        epsilon: said.value.epsilon,
      };
    case "gamma":
      return {
        name: "gamma",
        gamma: said.value.gamma,
      };
    case "zPlus":
      return { name: "zPlus" };
    case "alphaBeta":
      return {
        name: "alphaBeta",
        alpha: said.value.alpha,
        beta: said.value.beta,
      };
    case "flat":
      return { name: "flat" };
    case "zBox":
      return {
        name: "zBox",
        low: said.value.low ?? 0,
        high: said.value.high ?? 0,
      };
    case "wSquare":
      return { name: "wSquare" };
  }
  return undefined;
}

/**
 * How to compute relevance. A request without a method uses the default of the model (model.yaml). If model.yaml has no
 * default, the request uses LRP with its default parameters. Where a request names the default method of the model, its
 * parameters that are unset are those of the model.
 */
export type Method =
  | Lrp
  | Gradient
  | GradientTimesInput
  | IntegratedGradients
  | SmoothGrad
  | Occlusion
  | ShapleySampling
  | ContextualDecomposition
  | GradientShap
  | Counterfactual;

/** The message of a method. */
export function toWire(method: Method): wire.Method {
  switch (method.name) {
    case "lrp":
      only(
        method,
        ["name", "productRule", "epsilon", "biasFactor", "composite", "stabiliser", "cellStabiliser", "layerStabiliser", "ceiling"],
        "method.lrp",
      );
      return {
        method: {
          $case: "lrp",
          value: {
            productRule: choice(PRODUCT_RULE_WORDS, method.productRule, "method.lrp.product_rule"),
            epsilon: method.epsilon,
            biasFactor: method.biasFactor,
            composite: method.composite && compositeToWire(method.composite),
            stabiliser: method.stabiliser,
            cellStabiliser: method.cellStabiliser,
            layerStabiliser: method.layerStabiliser,
            ceiling: method.ceiling,
          },
        },
      };
    case "gradient":
      only(method, ["name"], "method.gradient");
      return { method: { $case: "gradient", value: {} } };
    case "gradientTimesInput":
      only(method, ["name"], "method.gradientTimesInput");
      return { method: { $case: "gradientTimesInput", value: {} } };
    case "integratedGradients":
      only(method, ["name", "steps", "baseline", "maxSteps", "background"], "method.integratedGradients");
      return {
        method: {
          $case: "integratedGradients",
          value: {
            steps: method.steps,
            baseline: allToWire(method.baseline ?? {}, "method.integratedGradients.baseline"),
            maxSteps: method.maxSteps,
            background: method.background && backgroundToWire(method.background),
          },
        },
      };
    case "smoothGrad":
      only(method, ["name", "samples", "noise", "seed"], "method.smoothGrad");
      return {
        method: {
          $case: "smoothGrad",
          value: {
            samples: method.samples,
            noise: method.noise,
            seed: whole(method.seed),
          },
        },
      };
    case "occlusion":
      only(method, ["name", "window", "baseline", "of", "over", "background"], "method.occlusion");
      return {
        method: {
          $case: "occlusion",
          value: {
            window: method.window,
            baseline: allToWire(method.baseline ?? {}, "method.occlusion.baseline"),
            of: choice(QUANTITY_WORDS, method.of, "method.occlusion.of"),
            over: choice(PLAYERS_WORDS, method.over, "method.occlusion.over"),
            background: method.background && backgroundToWire(method.background),
          },
        },
      };
    case "shapleySampling":
      only(
        method,
        ["name", "permutations", "seed", "baseline", "over", "background", "standardError", "maxPermutations", "exactPlayers"],
        "method.shapleySampling",
      );
      return {
        method: {
          $case: "shapleySampling",
          value: {
            permutations: method.permutations,
            seed: whole(method.seed),
            baseline: allToWire(method.baseline ?? {}, "method.shapleySampling.baseline"),
            over: choice(PLAYERS_WORDS, method.over, "method.shapleySampling.over"),
            background: method.background && backgroundToWire(method.background),
            standardError: method.standardError,
            maxPermutations: method.maxPermutations,
            exactPlayers: method.exactPlayers,
          },
        },
      };
    case "contextualDecomposition":
      only(method, ["name", "span"], "method.contextualDecomposition");
      return {
        method: {
          $case: "contextualDecomposition",
          value: { span: method.span && spanToWire(method.span) },
        },
      };
    case "gradientShap":
      only(method, ["name", "samples", "seed", "baseline", "background"], "method.gradientShap");
      return {
        method: {
          $case: "gradientShap",
          value: {
            samples: method.samples,
            seed: whole(method.seed),
            baseline: allToWire(method.baseline ?? {}, "method.gradientShap.baseline"),
            background: method.background && backgroundToWire(method.background),
          },
        },
      };
    case "counterfactual":
      only(method, ["name", "most", "maxRuns", "threshold", "baseline", "over", "background"], "method.counterfactual");
      return {
        method: {
          $case: "counterfactual",
          value: {
            most: method.most,
            maxRuns: method.maxRuns,
            threshold: method.threshold,
            baseline: allToWire(method.baseline ?? {}, "method.counterfactual.baseline"),
            over: choice(PLAYERS_WORDS, method.over, "method.counterfactual.over"),
            background: method.background && backgroundToWire(method.background),
          },
        },
      };
    default:
      throw new InvalidRequest(`there is no method "${(method as { name: unknown }).name}"`, { field: "method" });
  }
}

/** The method of a message; undefined where there is none, or one that this client does not know. */
export function fromWire(message: wire.Method | undefined): Method | undefined {
  const said = message?.method;
  switch (said?.$case) {
    case "lrp":
      return {
        name: "lrp",
        productRule: chosen(PRODUCT_RULE_WORDS, said.value.productRule),
        epsilon: said.value.epsilon,
        biasFactor: said.value.biasFactor,
        composite: compositeFromWire(said.value.composite),
        stabiliser: said.value.stabiliser,
        cellStabiliser: said.value.cellStabiliser,
        layerStabiliser: said.value.layerStabiliser,
        ceiling: said.value.ceiling,
      };
    case "gradient":
      return { name: "gradient" };
    case "gradientTimesInput":
      return { name: "gradientTimesInput" };
    case "integratedGradients":
      return {
        name: "integratedGradients",
        steps: said.value.steps,
        baseline: allFromWire(said.value.baseline),
        maxSteps: said.value.maxSteps,
        background: backgroundFromWire(said.value.background),
      };
    case "smoothGrad":
      return {
        name: "smoothGrad",
        samples: said.value.samples,
        noise: said.value.noise,
        seed: said.value.seed,
      };
    case "occlusion":
      return {
        name: "occlusion",
        window: said.value.window,
        baseline: allFromWire(said.value.baseline),
        of: chosen(QUANTITY_WORDS, said.value.of),
        over: chosen(PLAYERS_WORDS, said.value.over),
        background: backgroundFromWire(said.value.background),
      };
    case "shapleySampling":
      return {
        name: "shapleySampling",
        permutations: said.value.permutations,
        seed: said.value.seed,
        baseline: allFromWire(said.value.baseline),
        over: chosen(PLAYERS_WORDS, said.value.over),
        background: backgroundFromWire(said.value.background),
        standardError: said.value.standardError,
        maxPermutations: said.value.maxPermutations,
        exactPlayers: said.value.exactPlayers,
      };
    case "contextualDecomposition":
      return {
        name: "contextualDecomposition",
        span: spanFromWire(said.value.span),
      };
    case "gradientShap":
      return {
        name: "gradientShap",
        samples: said.value.samples,
        seed: said.value.seed,
        baseline: allFromWire(said.value.baseline),
        background: backgroundFromWire(said.value.background),
      };
    case "counterfactual":
      return {
        name: "counterfactual",
        most: said.value.most,
        maxRuns: said.value.maxRuns,
        threshold: said.value.threshold,
        baseline: allFromWire(said.value.baseline),
        over: chosen(PLAYERS_WORDS, said.value.over),
        background: backgroundFromWire(said.value.background),
      };
  }
  return undefined;
}

function compositeToWire(composite: Composite): wire.Composite {
  only(composite, ["rules", "first"], "method.composite");
  return {
    rules: mapped(composite.rules, ruleToWire),
    first: composite.first && ruleToWire(composite.first),
  };
}

function compositeFromWire(message: wire.Composite | undefined): Composite | undefined {
  return message && {
    rules: mapped(message.rules, ruleFromWire),
    first: ruleFromWire(message.first),
  };
}

function backgroundToWire(background: Background): wire.Background {
  only(background, ["samples", "draws", "seed"], "method.background");
  return {
    samples: allToWire(background.samples ?? {}, "method.background.samples"),
    draws: background.draws,
    seed: whole(background.seed),
  };
}

function backgroundFromWire(message: wire.Background | undefined): Background | undefined {
  return message && {
    samples: allFromWire(message.samples),
    draws: message.draws,
    seed: message.seed,
  };
}

function spanToWire(span: Span): wire.Span {
  only(span, ["start", "end"], "method.span");
  return {
    start: span.start,
    end: span.end,
  };
}

function spanFromWire(message: wire.Span | undefined): Span | undefined {
  return message && {
    start: message.start ?? 0,
    end: message.end ?? 0,
  };
}

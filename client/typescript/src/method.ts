/** The methods as types. For a parameter that is omitted, the server uses its default. */

import { InvalidRequest } from "./errors.js";
import * as wire from "./generated/lstm_explain/v1/method.js";
import { allFromWire, allToWire, type TensorLike } from "./tensor.js";

/** The value of absent inputs, by name. The default is zero. */
export type Baseline = Record<string, TensorLike>;
/**
 * How a gate and its signal share the relevance of their product; with the default "all", the signal receives all of
 * it.
 */
export type ProductRule = "all" | "half" | "prop" | "abs";

/** Layer-wise relevance propagation with the epsilon rule (Arras et al. 2017, 2019). */
export interface Lrp {
  name: "lrp";
  productRule?: ProductRule;
  /** The stabiliser. Must not be negative. Default: 0.001. */
  epsilon?: number;
  /**
   * The share of the relevance of bias and stabiliser that is distributed to the inputs of a sum, in [0, 1]. Default:
   * 0.
   */
  biasFactor?: number;
  /** Different rules for some dense and convolutional layers. */
  composite?: Composite;
}
/**
 * Rules by the name of a node, of an operator (`Gemm`) or of a kind of layer (`dense`, `convolution`); `first` is for
 * the layers that read the input.
 */
export interface Composite {
  rules: Record<string, Rule>;
  first?: Rule;
}
/** The share of the relevance of a layer's output that an input receives. */
export type Rule =
  | { name: "epsilon"; epsilon?: number }
  | { name: "gamma"; gamma?: number }
  | { name: "zPlus" }
  | { name: "alphaBeta"; alpha?: number; beta?: number }
  | { name: "flat" }
  | { name: "zBox"; low: number; high: number };
/** Partial derivatives of the explained value. */
export interface Gradient {
  name: "gradient";
}
/** Partial derivatives times the input. */
export interface GradientTimesInput {
  name: "gradientTimesInput";
}
/** Gradients averaged along the line from a baseline to the input, in `steps` (50) points. */
export interface IntegratedGradients {
  name: "integratedGradients";
  steps?: number;
  baseline?: Baseline;
}
/** Gradients averaged over `samples` (25) copies with `noise` (0.1: a share of the input's range). */
export interface SmoothGrad {
  name: "smoothGrad";
  samples?: number;
  noise?: number;
  seed?: number | bigint;
}
/** How much the explained value decreases when the baseline replaces `window` (1) time steps. */
export interface Occlusion {
  name: "occlusion";
  window?: number;
  baseline?: Baseline;
  /** The quantity whose decrease is measured. Default: "score". */
  of?: "score" | "probability";
}
/** Shapley values, estimated over `permutations` (25) random permutations. */
export interface ShapleySampling {
  name: "shapleySampling";
  permutations?: number;
  seed?: number | bigint;
  baseline?: Baseline;
  /** The players. Default: "steps". */
  over?: "steps" | "features" | "cells";
}
/** Contextual decomposition of LSTMs (Murdoch et al. 2018). */
export interface ContextualDecomposition {
  name: "contextualDecomposition";
}
/** How to compute relevance. */
export type Method =
  | Lrp
  | Gradient
  | GradientTimesInput
  | IntegratedGradients
  | SmoothGrad
  | Occlusion
  | ShapleySampling
  | ContextualDecomposition;

const PRODUCT_RULES = ["all", "half", "prop", "abs"] as const;
const QUANTITIES = ["score", "probability"] as const;
const PLAYERS = ["steps", "features", "cells"] as const;

/** The wire numbers choices from 1; 0 is the server's default. */
function choice<T extends string>(choices: readonly T[], value: T | undefined, field: string): number {
  const at = value === undefined ? 0 : choices.indexOf(value) + 1;
  if (value !== undefined && at === 0) {
    throw new InvalidRequest(`${field} is "${value}", wanted one of ${choices.join(", ")}`, { field });
  }
  return at;
}

/** The message of a method. */
export function toWire(method: Method): wire.Method {
  const where = `method.${method.name}`;
  switch (method.name) {
    case "lrp": {
      const { epsilon, biasFactor, composite } = method;
      const productRule = choice(PRODUCT_RULES, method.productRule, `${where}.product_rule`);
      const rules = composite && compositeToWire(composite);
      return { method: { $case: "lrp", value: { productRule, epsilon, biasFactor, composite: rules } } };
    }
    case "integratedGradients": {
      const baseline = allToWire(method.baseline ?? {}, `${where}.baseline`);
      return { method: { $case: "integratedGradients", value: { steps: method.steps, baseline } } };
    }
    case "smoothGrad": {
      const { samples, noise, seed } = method;
      return { method: { $case: "smoothGrad", value: { samples, noise, seed: whole(seed) } } };
    }
    case "occlusion": {
      const baseline = allToWire(method.baseline ?? {}, `${where}.baseline`);
      const of = choice(QUANTITIES, method.of, `${where}.of`);
      return { method: { $case: "occlusion", value: { window: method.window, baseline, of } } };
    }
    case "shapleySampling": {
      const { permutations, seed } = method;
      const baseline = allToWire(method.baseline ?? {}, `${where}.baseline`);
      const over = choice(PLAYERS, method.over, `${where}.over`);
      return { method: { $case: "shapleySampling", value: { permutations, seed: whole(seed), baseline, over } } };
    }
    case "gradient":
    case "gradientTimesInput":
    case "contextualDecomposition":
      return { method: { $case: method.name, value: {} } };
    default:
      throw new InvalidRequest(`there is no method "${(method as { name: unknown }).name}"`, { field: "method" });
  }
}

/** Returns the method of a message, or undefined if there is none or this client does not know it. */
export function fromWire(message: wire.Method | undefined): Method | undefined {
  const said = message?.method;
  switch (said?.$case) {
    case "lrp": {
      const { productRule, composite, ...rest } = said.value;
      return {
        name: "lrp",
        productRule: PRODUCT_RULES[productRule - 1],
        ...rest,
        composite: composite && compositeFromWire(composite),
      };
    }
    case "integratedGradients":
      return { name: said.$case, ...said.value, baseline: allFromWire(said.value.baseline) };
    case "smoothGrad":
      return { name: said.$case, ...said.value };
    case "occlusion":
      return { name: said.$case, ...said.value, baseline: allFromWire(said.value.baseline), of: QUANTITIES[said.value.of - 1] };
    case "shapleySampling": {
      const { baseline, over } = said.value;
      return { name: said.$case, ...said.value, baseline: allFromWire(baseline), over: PLAYERS[over - 1] };
    }
    case "gradient":
    case "gradientTimesInput":
    case "contextualDecomposition":
      return { name: said.$case };
  }
  return undefined;
}

function whole(value: number | bigint | undefined): bigint | undefined {
  return value === undefined ? undefined : BigInt(value);
}

function compositeToWire(composite: Composite): wire.Composite {
  const rules = Object.entries(composite.rules).map(([key, rule]) => [key, ruleToWire(rule)]);
  return { rules: Object.fromEntries(rules), first: composite.first && ruleToWire(composite.first) };
}

function ruleToWire(rule: Rule): wire.Rule {
  const { name, ...value } = rule;
  return { rule: { $case: name, value } as wire.Rule["rule"] };
}

function compositeFromWire(message: wire.Composite): Composite {
  const rules: Record<string, Rule> = {};
  for (const [key, value] of Object.entries(message.rules)) {
    const rule = ruleFromWire(value);
    if (rule) {
      rules[key] = rule;
    }
  }
  return { rules, first: message.first && ruleFromWire(message.first) };
}

function ruleFromWire(message: wire.Rule): Rule | undefined {
  return message.rule && ({ name: message.rule.$case, ...message.rule.value } as Rule);
}

// SPDX-License-Identifier: Apache-2.0

/** Groups of entries of the inputs, and their relevance. */

import type * as wire from "./generated/lstm_explain/v1/explanation.js";
import { allFromWire, type Tensor } from "./tensor.js";

/**
 * Divides the inputs into groups of entries that belong together, such as days of hourly steps. At most one of `window`,
 * `words` and `changePoints` is set; without any, all steps belong together.
 */
export interface Groups {
  /** This many consecutive steps. */
  window?: number;
  /** The tokens of each word, in inputs sent as text. */
  words?: boolean;
  /** Segments of inputs of floating-point numbers, between which the mean of a feature changes. */
  changePoints?: ChangePoints;
  /**
   * Groups of features. Features of an input in no group form a group by themselves. "model": the feature groups of the
   * model.
   */
  features?: readonly FeatureGroup[] | "model";
}

export interface ChangePoints {
  /** Number of segments at most. Default: 10. */
  segments?: number;
  /**
   * What a cut must lower the sum of squared deviations by, in units of the variance of the noise. Default: (features + 1)
   * times the logarithm of the number of steps.
   */
  penalty?: number;
}

/** Features of one input that belong together. */
export interface FeatureGroup {
  name: string;
  /** Name of the input. May be omitted if the model has only one input with features. */
  input?: string;
  /** Names, or positions on the last axis of the input. */
  features: readonly (string | number)[];
}

/**
 * The groups of each input, by its name. A sample that has fewer groups than another has empty names and zeros behind
 * them.
 */
export interface GroupRelevance {
  /** The sums over the entries of each group, of shape [batch, groups]. */
  relevance: Record<string, Tensor>;
  /** The names, such as "steps 0-23, weather", of shape [batch, groups]. */
  names: Record<string, Tensor>;
  /** The first step of each group and the step after its last one, of shape [batch, groups, 2]. */
  steps: Record<string, Tensor>;
  /** The standard error of `relevance`, for methods that draw samples. */
  standardError: Record<string, Tensor>;
}

export function toWire({ window, words, changePoints, features = [] }: Groups): wire.Groups {
  const named = features === "model" ? [] : features;
  return {
    steps:
      window !== undefined
        ? { $case: "window", value: window }
        : words
          ? { $case: "words", value: true }
          : changePoints && { $case: "changePoints", value: { segments: undefined, penalty: undefined, ...changePoints } },
    features: named.map((group) => ({ name: group.name, input: group.input ?? "", features: group.features.map(String) })),
    modelFeatures: features === "model",
  };
}

export function fromWire(message: wire.GroupAnswer | undefined): GroupRelevance {
  return {
    relevance: allFromWire(message?.relevance ?? []),
    names: allFromWire(message?.names ?? []),
    steps: allFromWire(message?.steps ?? []),
    standardError: allFromWire(message?.standardError ?? []),
  };
}

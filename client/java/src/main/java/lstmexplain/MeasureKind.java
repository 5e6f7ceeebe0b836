// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

/** The number that a {@link Measure} is. */
public enum MeasureKind {
  /** The mean of the squared differences from the reference. */
  MEAN_SQUARED_ERROR,
  /** The mean of the absolute differences from the reference. */
  MEAN_ABSOLUTE_ERROR,
  /** The sum of the absolute entries. */
  L1_NORM,
  /** The square root of the sum of the squared entries. */
  L2_NORM,
  /** The logarithm of the probability of the entry at the target's indices. */
  LOG_PROBABILITY,
  /** The probability of the entry at the target's indices, by the softmax over the last axis. */
  PROBABILITY,
  /**
   * The sum of the entries along a path, whose labels the target's indices are, one per step. By
   * default the best path.
   */
  PATH_SCORE
}

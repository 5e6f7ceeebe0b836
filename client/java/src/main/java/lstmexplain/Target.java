package lstmexplain;

import java.util.Arrays;
import java.util.List;
import java.util.Objects;

/**
 * What is explained: one scalar a sample, taken from one output. What is left out is the model's
 * default.
 *
 * @param output the output's name, or empty
 * @param indices a position in one sample's output, one number for each of its axes, or one such
 *     position after another for every sample; empty: the largest entry on the last axis
 * @param contrast a second position, or empty: output[indices] - output[contrast] is explained
 * @param weights explains the sum of weights times output; of the shape of one sample's output;
 *     excludes indices; or null
 * @param batchAxis the axis of the output along which samples lie, or null
 * @param noBatchAxis for a model of one sample without a batch axis
 * @param preActivation false: explains a Softmax, LogSoftmax or Sigmoid at the output's end itself,
 *     not the value before it; or null
 */
public record Target(
    String output,
    List<Long> indices,
    List<Long> contrast,
    Tensor weights,
    Integer batchAxis,
    boolean noBatchAxis,
    Boolean preActivation) {

  /** Checks and copies what is given. */
  public Target {
    Objects.requireNonNull(output, "output");
    indices = List.copyOf(indices);
    contrast = List.copyOf(contrast);
  }

  /** The largest entry on the last axis of the model's default output. */
  public Target() {
    this("", List.of(), List.of(), null, null, false, null);
  }

  /** One position of the model's default output. */
  public static Target at(long... indices) {
    return new Target("", list(indices), List.of(), null, null, false, null);
  }

  /** A linear combination of the model's default output. */
  public static Target weighted(Tensor weights) {
    Objects.requireNonNull(weights, "weights");
    return new Target("", List.of(), List.of(), weights, null, false, null);
  }

  /** The same of another output. */
  public Target output(String name) {
    return new Target(name, indices, contrast, weights, batchAxis, noBatchAxis, preActivation);
  }

  /** How much more than the value at these indices. */
  public Target contrast(long... other) {
    return new Target(output, indices, list(other), weights, batchAxis, noBatchAxis, preActivation);
  }

  /** With samples along this axis of the output. */
  public Target batchAxis(int axis) {
    return new Target(output, indices, contrast, weights, axis, false, preActivation);
  }

  /** Of a model of one sample without a batch axis. */
  public Target noBatchAxis(boolean none) {
    return new Target(
        output, indices, contrast, weights, none ? null : batchAxis, none, preActivation);
  }

  /** Before (true) or after (false) an activation at the output's end. */
  public Target preActivation(boolean before) {
    return new Target(output, indices, contrast, weights, batchAxis, noBatchAxis, before);
  }

  private static List<Long> list(long... indices) {
    return Arrays.stream(indices).boxed().toList();
  }
}

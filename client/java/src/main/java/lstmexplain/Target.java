// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import java.util.Arrays;
import java.util.List;
import java.util.Objects;

/**
 * Selects what to explain: one scalar per sample, taken from one output. Parts that are omitted
 * take the defaults of the model.
 *
 * @param output the output's name, or empty
 * @param indices a position in the output of one sample, with one number per axis, or the
 *     concatenated positions of all samples; if empty, the largest entry on the last axis
 * @param contrast a second position, or empty; the explained value is output[indices] -
 *     output[contrast]
 * @param weights explains the sum of weights times output; has the shape of the output of one
 *     sample; cannot be combined with indices; or null
 * @param batchAxis the batch axis of the output, or null
 * @param noBatchAxis for a model of one sample without a batch axis
 * @param preActivation false explains the result of a final Softmax, LogSoftmax or Sigmoid of the
 *     output, not the value before it; or null
 * @param measure explains this number of the output instead of an entry; or null
 */
public record Target(
    String output,
    List<Long> indices,
    List<Long> contrast,
    Tensor weights,
    Integer batchAxis,
    boolean noBatchAxis,
    Boolean preActivation,
    Measure measure)
    implements TargetSet {

  /** Checks and copies the arguments. */
  public Target {
    Objects.requireNonNull(output, "output");
    indices = List.copyOf(indices);
    contrast = List.copyOf(contrast);
  }

  /** The largest entry on the last axis of the model's default output. */
  public Target() {
    this("", List.of(), List.of(), null, null, false, null, null);
  }

  /** One position of the model's default output. */
  public static Target at(long... indices) {
    return new Target("", list(indices), List.of(), null, null, false, null, null);
  }

  /** A linear combination of the model's default output. */
  public static Target weighted(Tensor weights) {
    Objects.requireNonNull(weights, "weights");
    return new Target("", List.of(), List.of(), weights, null, false, null, null);
  }

  /** Returns a copy for another output. */
  public Target output(String name) {
    return new Target(name, indices, contrast, weights, batchAxis, noBatchAxis, preActivation, measure);
  }

  /** Returns a copy that explains the difference from the value at these indices. */
  public Target contrast(long... other) {
    return new Target(output, indices, list(other), weights, batchAxis, noBatchAxis, preActivation, measure);
  }

  /** Returns a copy with this batch axis of the output. */
  public Target batchAxis(int axis) {
    return new Target(output, indices, contrast, weights, axis, false, preActivation, measure);
  }

  /** Returns a copy for a model of one sample without a batch axis. */
  public Target noBatchAxis(boolean none) {
    return new Target(
        output, indices, contrast, weights, none ? null : batchAxis, none, preActivation, measure);
  }

  /**
   * Returns a copy that explains the value before (true) or after (false) a final activation of the
   * output.
   */
  public Target preActivation(boolean before) {
    return new Target(output, indices, contrast, weights, batchAxis, noBatchAxis, before, measure);
  }

  /** Returns a copy that explains this number of the output instead of an entry. */
  public Target measure(Measure chosen) {
    return new Target(
        output, indices, contrast, weights, batchAxis, noBatchAxis, preActivation, chosen);
  }

  private static List<Long> list(long... indices) {
    return Arrays.stream(indices).boxed().toList();
  }

  lstmexplain.v1.Target encode() {
    lstmexplain.v1.Target.Builder out =
        lstmexplain.v1.Target.newBuilder()
            .setOutput(output)
            .addAllIndices(indices)
            .addAllContrastIndices(contrast)
            .setNoBatchAxis(noBatchAxis);
    if (weights != null) {
      out.setWeights(Wire.encode("", weights));
    }
    if (batchAxis != null) {
      out.setBatchAxis(batchAxis);
    }
    if (preActivation != null) {
      out.setPreActivation(preActivation);
    }
    if (measure != null) {
      out.setMeasure(measure.encode());
    }
    return out.build();
  }

  static Target decode(lstmexplain.v1.Target message) {
    return new Target(
        message.getOutput(),
        message.getIndicesList(),
        message.getContrastIndicesList(),
        message.hasWeights() ? Wire.decode(message.getWeights()) : null,
        message.hasBatchAxis() ? message.getBatchAxis() : null,
        message.getNoBatchAxis(),
        message.hasPreActivation() ? message.getPreActivation() : null,
        message.hasMeasure() ? Measure.decode(message.getMeasure()) : null);
  }
}

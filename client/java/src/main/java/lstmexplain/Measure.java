// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import java.util.Objects;

/**
 * A number of the output of each sample that is explained instead of an entry: an error, a norm, or
 * the probability of an entry, or the score of a path.
 *
 * @param kind which number
 * @param input the name of the input that an error compares the output with, or empty
 * @param tensor the array that an error compares the output with, of its shape or of that of one
 *     sample, or null; for a path, what the best one gains from one label to the next
 * @param ahead how many time steps the output is ahead of the input
 * @param blank for a path, the label that CTC drops, or null; the target's indices are then labels
 *     without blanks
 */
public record Measure(MeasureKind kind, String input, Tensor tensor, int ahead, Integer blank) {

  /** Checks the arguments. */
  public Measure {
    Objects.requireNonNull(kind, "kind");
    Objects.requireNonNull(input, "input");
  }

  /** A norm, a probability or the score of a path. */
  public static Measure of(MeasureKind kind) {
    return new Measure(kind, "", null, 0, null);
  }

  /** The error against an input. */
  public static Measure against(MeasureKind kind, String input) {
    return new Measure(kind, input, null, 0, null);
  }

  /** The error against an array. */
  public static Measure against(MeasureKind kind, Tensor tensor) {
    return new Measure(kind, "", Objects.requireNonNull(tensor, "tensor"), 0, null);
  }

  /** Returns a copy for an output that is this number of time steps ahead of the input. */
  public Measure ahead(int steps) {
    return new Measure(kind, input, tensor, steps, blank);
  }

  /** Returns a copy for labels that CTC reads from a path by dropping this one. */
  public Measure blank(int label) {
    return new Measure(kind, input, tensor, ahead, label);
  }

  lstmexplain.v1.Measure encode() {
    var out =
        lstmexplain.v1.Measure.newBuilder()
            .setKind(lstmexplain.v1.MeasureKind.valueOf(Wire.name(kind)))
            .setAhead(ahead);
    if (!input.isEmpty()) {
      out.setInput(input);
    }
    if (tensor != null) {
      out.setTensor(Wire.encode("", tensor));
    }
    if (blank != null) {
      out.setBlank(blank);
    }
    return out.build();
  }

  /** Null for a kind that this client does not know. */
  static Measure decode(lstmexplain.v1.Measure message) {
    MeasureKind kind = Wire.constant(MeasureKind.class, message.getKind());
    Integer blank = message.hasBlank() ? message.getBlank() : null;
    return kind == null
        ? null
        : new Measure(kind, message.getInput(), null, message.getAhead(), blank);
  }
}

// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import java.util.Arrays;
import java.util.List;

/**
 * A target for every entry of an output along one of its axes, such as every class or every step of
 * a forecast.
 *
 * @param axis the axis, counted in the output of one sample (the output without its batch axis): 0
 *     for steps; -1, the last one, for classes
 * @param entries positions on the axis; if empty, all of them
 * @param target what the targets have in common: the output, its batch axis, preActivation and, in
 *     indices, one position on the other axes; without indices, every target is the largest entry
 *     on the last of the other axes; or null
 */
public record Every(int axis, List<Long> entries, Target target) implements TargetSet {

  /** Copies the entries. */
  public Every {
    entries = List.copyOf(entries);
  }

  /** These entries on the last axis of the model's default output; without any, all of them. */
  public static Every classes(long... entries) {
    return new Every(-1, Arrays.stream(entries).boxed().toList(), null);
  }

  /** These entries on the first axis of one sample's default output; without any, all of them. */
  public static Every steps(long... entries) {
    return new Every(0, Arrays.stream(entries).boxed().toList(), null);
  }

  /** Returns a copy whose targets have this in common. */
  public Every of(Target shared) {
    return new Every(axis, entries, shared);
  }

  lstmexplain.v1.Every encode() {
    var out = lstmexplain.v1.Every.newBuilder().setAxis(axis).addAllEntries(entries);
    if (target != null) {
      out.setTarget(target.encode());
    }
    return out.build();
  }
}

// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import java.util.List;

/**
 * One target, a target for every entry of an output along an axis ({@link Every}), or the default
 * target of the model ({@link #DEFAULT}).
 */
public sealed interface TargetSet permits Target, Every, TargetSet.ModelDefault {
  /** The default target of the model. */
  TargetSet DEFAULT = new ModelDefault();

  /** The type of {@link #DEFAULT}. */
  record ModelDefault() implements TargetSet {}

  /** The message of this set. */
  private lstmexplain.v1.TargetSet encode() {
    var out = lstmexplain.v1.TargetSet.newBuilder();
    if (this instanceof Target target) {
      out.setTarget(target.encode());
    } else if (this instanceof Every every) {
      out.setEvery(every.encode());
    }
    return out.build();
  }

  /** The messages of several sets. */
  static List<lstmexplain.v1.TargetSet> encode(List<TargetSet> sets) {
    return sets.stream().map(TargetSet::encode).toList();
  }
}

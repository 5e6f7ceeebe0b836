// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import java.util.Map;
import lstmexplain.v1.GroupAnswer;

/**
 * The groups of each input, by its name. A sample that has fewer groups than another has empty
 * names and zeros behind them.
 *
 * @param relevance the sums over the entries of each group, in shape [batch, groups]
 * @param names the names, such as "steps 0-23, weather", in shape [batch, groups]
 * @param steps the first step of each group and the step after its last one, in shape [batch,
 *     groups, 2]
 * @param standardError the standard error of the relevance, for methods that draw samples
 */
public record GroupRelevance(
    Map<String, Tensor> relevance,
    Map<String, Tensor> names,
    Map<String, Tensor> steps,
    Map<String, Tensor> standardError) {

  static GroupRelevance decode(GroupAnswer message) {
    return new GroupRelevance(
        Wire.decode(message.getRelevanceList()),
        Wire.decode(message.getNamesList()),
        Wire.decode(message.getStepsList()),
        Wire.decode(message.getStandardErrorList()));
  }
}

// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import java.util.Map;
import lstmexplain.v1.NodeShare;

/**
 * Accounts for the explained value of every sample: explained = inputs + initialStates + absorbed +
 * residual. Every tensor has shape [batch].
 *
 * @param inputs the sum of the relevance of all inputs
 * @param initialStates the relevance of initial states that are constants of the model
 * @param absorbed for LRP, the relevance that biases, constants and stabilisers absorb; for a
 *     method with a baseline, the value of the baseline
 * @param residual the rest; for LRP, rounding
 * @param byNode {@code absorbed}, split by node
 */
public record Ledger(
    Tensor inputs,
    Tensor initialStates,
    Tensor absorbed,
    Tensor residual,
    Map<String, Tensor> byNode) {

  static Ledger decode(lstmexplain.v1.Ledger message) {
    return new Ledger(
        Wire.decode(message.getInputs()),
        Wire.decode(message.getInitialStates()),
        Wire.decode(message.getAbsorbed()),
        Wire.decode(message.getResidual()),
        Wire.byName(
            message.getByNodeList(),
            NodeShare::getNode,
            share -> Wire.decode(share.getAbsorbed())));
  }
}

// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import java.util.List;
import java.util.Map;
import lstmexplain.v1.ExplainResponse;

/**
 * The explanation of one batch.
 *
 * @param model the model that answered
 * @param version the version that answered
 * @param relevance maps the name of each input to its relevance, in the shape of the input; for
 *     token ids and text, one number per token
 * @param outputs the prediction, by output name
 * @param explained the explained value of each sample, in shape [batch]
 * @param captured the relevance of the inner values that the request captures
 * @param tokens the tokens of inputs sent as text, in the shape of their relevance; padding is the
 *     empty string
 * @param standardError the standard error of the relevance, for {@link Method.ShapleySampling}
 * @param ledger accounts for all of {@code explained}
 * @param method the method that the server used, with all parameters; null if this client does not
 *     know it
 * @param target the target that the server used
 * @param warnings reasons not to rely on the answer, one sentence each; if empty, the answer can be
 *     acted on
 * @param explainedQuantity how {@code explained} relates to the output of the target: "output" (the
 *     output itself), "logit" (the value before its Softmax or Sigmoid), "score" (the value before
 *     its LogSoftmax, Exp or Softplus) or "probability" (the output converted to a probability); empty if the server
 *     is older than this field
 * @param receipt a signed record of the answer, if the request asked for one; otherwise empty
 * @param notExplained for a request with a condition, one text per sample: why it is not explained,
 *     or empty; the relevance and ledger of such a sample are NaN
 * @param groups the groups that the request asked for, with their relevance
 */
public record Result(
    String model,
    String version,
    Map<String, Tensor> relevance,
    Map<String, Tensor> outputs,
    Tensor explained,
    Map<String, Tensor> captured,
    Map<String, Tensor> tokens,
    Map<String, Tensor> standardError,
    Ledger ledger,
    Method method,
    Target target,
    List<String> warnings,
    String explainedQuantity,
    String receipt,
    List<String> notExplained,
    GroupRelevance groups) {

  static Result decode(ExplainResponse response) {
    return decode(
        response, Wire.decode(response.getOutputsList()), Wire.decode(response.getTokensList()));
  }

  static Result decode(
      ExplainResponse response, Map<String, Tensor> outputs, Map<String, Tensor> tokens) {
    return new Result(
        response.getModel(),
        response.getVersion(),
        Wire.decode(response.getRelevanceList()),
        outputs,
        Wire.decode(response.getExplained()),
        Wire.decode(response.getCapturedList()),
        tokens,
        Wire.decode(response.getStandardErrorList()),
        Ledger.decode(response.getLedger()),
        MethodWire.decode(response.getMethod()),
        Target.decode(response.getTarget()),
        List.copyOf(response.getWarningsList()),
        response.getExplainedQuantity(),
        response.getReceipt(),
        List.copyOf(response.getNotExplainedList()),
        GroupRelevance.decode(response.getGroups()));
  }
}

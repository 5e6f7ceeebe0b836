package lstmexplain;

import java.util.List;
import java.util.Map;

/**
 * One batch, explained.
 *
 * @param model the model that answered
 * @param version the version that answered
 * @param relevance by input, of the input's shape; for token ids and text one number a token
 * @param outputs what the model predicted
 * @param explained the scalar explained, a sample each: shape [batch]
 * @param captured the relevance of the inner values asked for
 * @param tokens the words of inputs sent as text, of the shape of their relevance; padding is the
 *     empty string
 * @param standardError that of the relevance, with {@link Method.ShapleySampling}
 * @param ledger where all of {@code explained} went
 * @param method as the server used it, with every parameter; null if this client does not know it
 * @param target as the server used it
 * @param warnings why the answer should not be relied on, a sentence each; empty: it can be acted
 *     on
 * @param explainedQuantity what {@code explained} is of the target's output: "output", the output
 *     itself; "logit" or "score", the value before its Softmax or Sigmoid, or before its
 *     LogSoftmax; "probability", the output made one. Empty: the server is older than this field
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
    String explainedQuantity) {}

// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import com.google.protobuf.ByteString;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import lstmexplain.v1.ExplainResponse;
import lstmexplain.v1.NodeShare;

/** Takes an answer for several targets apart. */
final class TargetAnswers {
  private final ExplainResponse response;
  private final int targets;
  private final int number;

  private TargetAnswers(ExplainResponse response, int number) {
    this.response = response;
    this.targets = response.getTargetsCount();
    this.number = number;
  }

  /** A result per target, in their order. They share the outputs and the tokens. */
  static List<Result> decode(ExplainResponse response) {
    if (response.getTargetsCount() == 0) {
      throw ExplainException.malformed(
          "the answer is for one target: the server is older than requests with several targets",
          null);
    }
    var outputs = Wire.decode(response.getOutputsList());
    var tokens = Wire.decode(response.getTokensList());
    List<Result> out = new ArrayList<>();
    for (int number = 0; number < response.getTargetsCount(); number++) {
      out.add(Result.decode(new TargetAnswers(response, number).alone(), outputs, tokens));
    }
    return List.copyOf(out);
  }

  /** The answer as a request for this target alone would get it, without outputs and tokens. */
  private ExplainResponse alone() {
    var own = response.getTargets(number);
    var ledger = response.getLedger().toBuilder();
    ledger
        .setInputs(part(ledger.getInputs()))
        .setInitialStates(part(ledger.getInitialStates()))
        .setAbsorbed(part(ledger.getAbsorbed()))
        .setResidual(part(ledger.getResidual()))
        .clearByNode();
    for (NodeShare share : response.getLedger().getByNodeList()) {
      ledger.addByNode(share.toBuilder().setAbsorbed(part(share.getAbsorbed())));
    }
    var groups = response.getGroups();
    return ExplainResponse.newBuilder()
        .setModel(response.getModel())
        .setVersion(response.getVersion())
        .setExplained(part(response.getExplained()))
        .addAllRelevance(parts(response.getRelevanceList()))
        .addAllCaptured(parts(response.getCapturedList()))
        .setLedger(ledger)
        .setMethod(response.getMethod())
        .setTarget(own.getTarget())
        .addAllStandardError(parts(response.getStandardErrorList()))
        .addAllWarnings(own.getWarningsList())
        .setExplainedQuantity(own.getExplainedQuantity())
        .setReceipt(response.getReceipt())
        .addAllNotExplained(own.getNotExplainedList())
        .addAllStepsUsed(own.getStepsUsedList())
        .setGroups(
            groups.toBuilder()
                .clearRelevance()
                .addAllRelevance(parts(groups.getRelevanceList()))
                .clearStandardError()
                .addAllStandardError(parts(groups.getStandardErrorList())))
        .build();
  }

  private List<lstmexplain.v1.Tensor> parts(Collection<lstmexplain.v1.Tensor> tensors) {
    return tensors.stream().map(this::part).toList();
  }

  private lstmexplain.v1.Tensor part(lstmexplain.v1.Tensor tensor) {
    ByteString data = tensor.getData();
    if (tensor.getShapeCount() == 0
        || tensor.getShape(0) != targets
        || data.size() % targets != 0) {
      throw ExplainException.malformed(
          "tensor \"" + tensor.getName() + "\" has the shape " + tensor.getShapeList()
              + ", expected " + targets + " targets in front",
          null);
    }
    int size = data.size() / targets;
    return tensor.toBuilder()
        .clearShape()
        .addAllShape(tensor.getShapeList().subList(1, tensor.getShapeCount()))
        .setData(data.substring(number * size, (number + 1) * size))
        .build();
  }
}

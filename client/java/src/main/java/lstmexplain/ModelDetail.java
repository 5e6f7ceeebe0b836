package lstmexplain;

import java.util.List;
import java.util.Map;

/**
 * A model with its inputs, outputs and defaults.
 *
 * @param summary its name, version and state
 * @param inputs by name
 * @param outputs by name
 * @param lrpSupported whether LRP can explain the model; perturbation methods always can
 * @param nodes what happens at each node of the graph
 * @param defaultMethod used by a request without a method; or null
 * @param defaultTarget used by a request without a target
 * @param classNames output name to the names of the entries of its last axis
 * @param featureNames input name to the names of the entries of its last axis
 * @param textInputs inputs that may be sent as text
 * @param batchAxes input name to the axis of its samples; an input without one is not there
 * @param timeAxes input name to the axis of its time steps; an input without one is not there
 * @param guessedAxes inputs for which these two are a guess, to be set in model.yaml
 * @param units input or output name to its unit: one of all entries, or one for each entry of the
 *     last axis
 */
public record ModelDetail(
    ModelSummary summary,
    Map<String, TensorSpec> inputs,
    Map<String, TensorSpec> outputs,
    boolean lrpSupported,
    List<NodeReport> nodes,
    Method defaultMethod,
    Target defaultTarget,
    Map<String, List<String>> classNames,
    Map<String, List<String>> featureNames,
    List<String> textInputs,
    Map<String, Integer> batchAxes,
    Map<String, Integer> timeAxes,
    List<String> guessedAxes,
    Map<String, List<String>> units) {

  /**
   * What a tensor of the model has to be.
   *
   * @param type what its elements are; null if this client does not know it
   * @param shape an axis each: its size, or its symbolic name
   */
  public record TensorSpec(DataType type, List<String> shape) {}

  /**
   * One node of the graph.
   *
   * @param name its name
   * @param opType its operator
   * @param supported whether LRP can pass through it
   * @param rule the rule that LRP uses there, or why there is none
   */
  public record NodeReport(String name, String opType, boolean supported, String rule) {}
}

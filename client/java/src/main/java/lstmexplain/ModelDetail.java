// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import java.util.List;
import java.util.Map;

/**
 * A model with its inputs, outputs and defaults.
 *
 * @param summary its name, version and state
 * @param inputs by name
 * @param outputs by name
 * @param lrpSupported whether LRP supports the model; perturbation methods support all models
 * @param nodes what happens at each node of the graph
 * @param defaultMethod used by a request without a method; or null
 * @param defaultTarget used by a request without a target
 * @param classNames maps the name of an output to the names of the entries on its last axis
 * @param featureNames maps the name of an input to the names of the entries on its last axis
 * @param textInputs the inputs that accept text
 * @param batchAxes maps the name of an input to its batch axis; omits inputs without one
 * @param timeAxes maps the name of an input to its time axis; omits inputs without one
 * @param guessedAxes the inputs whose batch and time axes are guesses; set them in model.yaml
 * @param units maps the name of an input or output to its unit: one unit for all entries, or one
 *     for each entry on the last axis
 * @param backgroundSamples maps the name of an input to the number of samples that the background
 *     set of the model has of it; empty if the model has no background set
 * @param examples maps the name of an input to examples of it, as text: a text for an input that
 *     accepts text, for others a table as CSV, with a line per time step
 * @param featureGroups the groups of features that {@link Groups#featuresOfModel} stands for
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
    Map<String, List<String>> units,
    Map<String, Integer> backgroundSamples,
    Map<String, List<String>> examples,
    List<Groups.FeatureGroup> featureGroups) {

  /**
   * The declaration of an input or output of the model.
   *
   * @param type the element type; null if this client does not know it
   * @param shape the size or symbolic name of each axis
   */
  public record TensorSpec(DataType type, List<String> shape) {}

  /**
   * One node of the graph.
   *
   * @param name its name
   * @param opType its operator
   * @param supported whether LRP supports it
   * @param rule the rule that LRP uses, or the reason why there is none
   */
  public record NodeReport(String name, String opType, boolean supported, String rule) {}
}

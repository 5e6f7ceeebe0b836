// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;

/**
 * A request for one explanation. Each method returns a new request and leaves this one unchanged.
 *
 * <pre>{@code
 * Request.of("sentiment").input("tokens", "not a bad film").target(Target.at(0))
 * }</pre>
 *
 * @param model the model's name
 * @param version the version; if empty, the newest version that is ready
 * @param inputs one tensor for each input of the model, including the batch axis; sent in the order
 *     of the map
 * @param method if null, the default of the model
 * @param target if null, the default of the model
 * @param capture names of inner values whose relevance the result also contains
 * @param id identifies the answer in a stream; if empty, the position of the request in the stream,
 *     from "0"
 * @param targets several targets instead of one, or empty
 * @param receipt whether to ask for a receipt of the answer; the server needs a key to sign it
 * @param condition what the prediction of a sample must meet to be explained, such as {@code
 *     "probability > 0.8"}; if empty, every sample is explained
 * @param groups groups of entries whose relevance the result also contains; null for none
 * @param through by inner value, the units that relevance passes through; that of others is absorbed
 */
public record Request(
    String model,
    String version,
    Map<String, Tensor> inputs,
    Method method,
    Target target,
    List<String> capture,
    String id,
    List<TargetSet> targets,
    boolean receipt,
    String condition,
    Groups groups,
    Map<String, long[]> through) {

  /** Checks and copies the arguments. */
  public Request {
    Objects.requireNonNull(model, "model");
    Objects.requireNonNull(version, "version");
    Objects.requireNonNull(id, "id");
    Objects.requireNonNull(condition, "condition");
    inputs = Wire.copy(inputs);
    capture = List.copyOf(capture);
    targets = List.copyOf(targets);
    through = Wire.copy(through);
  }

  /** Creates a request to this model, without inputs. */
  public static Request of(String model) {
    return new Request(
        model, "", Map.of(), null, null, List.of(), "", List.of(), false, "", null, Map.of());
  }

  /** Selects the version of the model. */
  public Request version(String chosen) {
    return new Request(model, chosen, inputs, method, target, capture, id, targets, receipt, condition, groups, through);
  }

  /** Adds an input. */
  public Request input(String name, Tensor tensor) {
    Map<String, Tensor> more = new LinkedHashMap<>(inputs);
    more.put(Objects.requireNonNull(name, "name"), tensor);
    return new Request(model, version, more, method, target, capture, id, targets, receipt, condition, groups, through);
  }

  /** Adds an input of texts, one per sample, for a model with a tokenizer. */
  public Request input(String name, String... texts) {
    return input(name, Tensor.text(texts));
  }

  /** Selects the method. */
  public Request method(Method chosen) {
    return new Request(model, version, inputs, chosen, target, capture, id, targets, receipt, condition, groups, through);
  }

  /** Selects the target. */
  public Request target(Target chosen) {
    return new Request(model, version, inputs, method, chosen, capture, id, targets, receipt, condition, groups, through);
  }

  /**
   * Selects several targets, for {@link Client#explainMany} and in streams: {@link Target}, {@link
   * Every} or {@link TargetSet#DEFAULT}.
   */
  public Request targets(TargetSet... chosen) {
    return new Request(model, version, inputs, method, target, capture, id, List.of(chosen), receipt, condition, groups, through);
  }

  /** Requests the relevance of inner values too. */
  public Request capture(String... names) {
    List<String> more = new ArrayList<>(capture);
    more.addAll(List.of(names));
    return new Request(model, version, inputs, method, target, more, id, targets, receipt, condition, groups, through);
  }

  /** Requests a signed record of the answer, which {@code lstm-explain verify} checks. */
  public Request withReceipt() {
    return new Request(model, version, inputs, method, target, capture, id, targets, true, condition, groups, through);
  }

  /**
   * Explains only samples whose prediction meets this condition, such as {@code "probability > 0.8"}
   * or {@code "class is positive and explained > 3"}. Other samples are only predicted; {@link
   * Result#notExplained} says why.
   */
  public Request condition(String chosen) {
    return new Request(
        model, version, inputs, method, target, capture, id, targets, receipt, chosen, groups, through);
  }

  /**
   * Requests the relevance of groups of entries. They are the players of {@link Method.Occlusion}
   * and {@link Method.ShapleySampling}, and sums under other methods.
   */
  public Request groups(Groups chosen) {
    return new Request(
        model, version, inputs, method, target, capture, id, targets, receipt, condition, chosen, through);
  }

  /**
   * Lets relevance pass through these units of an inner value only, named as in {@link #capture}.
   */
  public Request through(String value, long... units) {
    Map<String, long[]> more = new LinkedHashMap<>(through);
    more.put(value, units.clone());
    return new Request(
        model, version, inputs, method, target, capture, id, targets, receipt, condition, groups, more);
  }

  /** Sets the id of the request. Its answer in a stream has the same id. */
  public Request id(String chosen) {
    return new Request(model, version, inputs, method, target, capture, chosen, targets, receipt, condition, groups, through);
  }
}

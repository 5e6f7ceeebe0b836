package lstmexplain;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;

/**
 * One explanation to ask for; every method returns another request and leaves this one as it is.
 *
 * <pre>{@code
 * Request.of("sentiment").input("tokens", "not a bad film").target(Target.at(0))
 * }</pre>
 *
 * @param model the model's name
 * @param version empty: the newest that is ready
 * @param inputs a tensor for every input of the model, with the batch axis that the model has; sent
 *     in the order of the map
 * @param method null: the model's default
 * @param target null: the model's default
 * @param capture names of inner values whose relevance is wanted too
 * @param id comes back with the answer of a stream; empty: the request's place in it, from "0"
 */
public record Request(
    String model,
    String version,
    Map<String, Tensor> inputs,
    Method method,
    Target target,
    List<String> capture,
    String id) {

  /** Checks and copies what is given. */
  public Request {
    Objects.requireNonNull(model, "model");
    Objects.requireNonNull(version, "version");
    Objects.requireNonNull(id, "id");
    inputs = Wire.copy(inputs);
    capture = List.copyOf(capture);
  }

  /** A request to this model, as yet without inputs. */
  public static Request of(String model) {
    return new Request(model, "", Map.of(), null, null, List.of(), "");
  }

  /** Asks this version of the model. */
  public Request version(String wanted) {
    return new Request(model, wanted, inputs, method, target, capture, id);
  }

  /** Adds an input. */
  public Request input(String name, Tensor tensor) {
    Map<String, Tensor> more = new LinkedHashMap<>(inputs);
    more.put(Objects.requireNonNull(name, "name"), tensor);
    return new Request(model, version, more, method, target, capture, id);
  }

  /** Adds an input of texts, one a sample, for a model with a tokenizer. */
  public Request input(String name, String... texts) {
    return input(name, Tensor.text(texts));
  }

  /** Computes relevance by this method. */
  public Request method(Method wanted) {
    return new Request(model, version, inputs, wanted, target, capture, id);
  }

  /** Explains this. */
  public Request target(Target wanted) {
    return new Request(model, version, inputs, method, wanted, capture, id);
  }

  /** Asks for the relevance of inner values too. */
  public Request capture(String... names) {
    List<String> more = new ArrayList<>(capture);
    more.addAll(List.of(names));
    return new Request(model, version, inputs, method, target, more, id);
  }

  /** Names the request; its answer in a stream has the same id. */
  public Request id(String chosen) {
    return new Request(model, version, inputs, method, target, capture, chosen);
  }
}

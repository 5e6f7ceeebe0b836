// SPDX-License-Identifier: Apache-2.0

package lstmexplain.conformance;

import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import lstmexplain.ExplainException;
import lstmexplain.Ledger;
import lstmexplain.Method;
import lstmexplain.ModelDetail;
import lstmexplain.ModelDetail.TensorSpec;
import lstmexplain.ModelSummary;
import lstmexplain.Result;
import lstmexplain.Tensor;

/** Compares answers with the expectations of a case; throws {@link Wrong} if something else came. */
final class Expected {
  private static final Gson GSON = new Gson();

  private Expected() {}

  static void result(Result actual, JsonObject expected) {
    if (expected.has("model")) {
      Wrong.unlessEqual("model", actual.model(), Asked.text(expected, "model"));
    }
    if (expected.has("version")) {
      Wrong.unlessEqual("version", actual.version(), Asked.text(expected, "version"));
    }
    Map.of(
            "relevance", actual.relevance(),
            "outputs", actual.outputs(),
            "captured", actual.captured(),
            "tokens", actual.tokens())
        .forEach((where, tensors) -> tensors(where, tensors, expected));
    if (expected.has("groups")) {
      JsonObject groups = expected.getAsJsonObject("groups");
      Map.of(
              "relevance", actual.groups().relevance(),
              "names", actual.groups().names(),
              "steps", actual.groups().steps(),
              "standard_error", actual.groups().standardError())
          .forEach((where, tensors) -> tensors(where, tensors, groups));
    }
    if (expected.has("warnings")) {
      warnings(actual.warnings(), expected.getAsJsonArray("warnings"));
    }
    if (expected.has("explained_quantity")) {
      Wrong.unlessEqual(
          "explained_quantity", actual.explainedQuantity(), Asked.text(expected, "explained_quantity"));
    }
    if (expected.has("not_explained")) {
      Wrong.unlessEqual(
          "not_explained",
          actual.notExplained(),
          List.of(Asked.strings(expected.getAsJsonArray("not_explained"))));
    }
    if (expected.has("receipt")) {
      String part = Asked.text(expected, "receipt");
      Wrong.unless(
          part.isEmpty() ? actual.receipt().isEmpty() : actual.receipt().contains(part),
          "the receipt \"" + actual.receipt() + "\" came, expected " + part);
    }
    if (expected.has("explained")) {
      tensor("explained", actual.explained(), expected.getAsJsonObject("explained"));
    }
    if (expected.has("ledger")) {
      ledger(actual, expected.getAsJsonObject("ledger"));
    }
  }

  private static void warnings(List<String> actual, JsonArray beginnings) {
    Wrong.unlessEqual("the number of warnings " + actual, actual.size(), beginnings.size());
    for (int i = 0; i < actual.size(); i++) {
      String expected = beginnings.get(i).getAsString();
      Wrong.unless(
          actual.get(i).startsWith(expected),
          "the warning \"" + actual.get(i) + "\" came, expected " + expected);
    }
  }

  private static void tensors(String where, Map<String, Tensor> actual, JsonObject expect) {
    if (!expect.has(where)) {
      return;
    }
    JsonObject expected = expect.getAsJsonObject(where);
    Wrong.unlessEqual(where, actual.keySet(), expected.keySet());
    actual.forEach(
        (name, tensor) -> tensor(where + "." + name, tensor, expected.getAsJsonObject(name)));
  }

  private static void ledger(Result actual, JsonObject expected) {
    Ledger ledger = actual.ledger();
    Map<String, Tensor> parts =
        Map.of(
            "inputs", ledger.inputs(),
            "initial_states", ledger.initialStates(),
            "absorbed", ledger.absorbed());
    parts.forEach(
        (name, tensor) -> {
          if (expected.has(name)) {
            tensor("ledger." + name, tensor, expected.getAsJsonObject(name));
          }
        });
    if (expected.has("balance")) {
      double[] missing = actual.explained().doubles();
      for (Tensor part :
          List.of(ledger.inputs(), ledger.initialStates(), ledger.absorbed(), ledger.residual())) {
        double[] values = part.doubles();
        for (int i = 0; i < missing.length; i++) {
          missing[i] -= values[i];
        }
      }
      double allowed = expected.get("balance").getAsDouble();
      for (double gap : missing) {
        Wrong.unless(
            Math.abs(gap) <= allowed, "ledger: " + gap + " is missing, allowed " + allowed);
      }
    }
  }

  private static void tensor(String where, Tensor actual, JsonObject expected) {
    String dtype = Asked.text(expected, "dtype");
    String type = actual.type().name().toLowerCase(Locale.ROOT);
    Wrong.unless(
        type.equals(dtype) || dtype.equals("float") && type.matches("float(32|64)"),
        where + ": " + type + " came, expected " + dtype);
    Wrong.unlessEqual(where, GSON.toJsonTree(actual.shape()), expected.get("shape"));
    if (!expected.has("tolerance")) {
      Tensor exact = Asked.tensor(expected);
      Wrong.unless(
          actual.equals(exact),
          where + ": " + GSON.toJson(elements(actual)) + " came, expected " + expected.get("data"));
      return;
    }
    double tolerance = expected.get("tolerance").getAsDouble();
    double[] values = actual.doubles();
    JsonArray data = expected.getAsJsonArray("data");
    for (int i = 0; i < values.length; i++) {
      double right = data.get(i).getAsDouble();
      Wrong.unless(
          Math.abs(values[i] - right) <= tolerance,
          where
              + ": "
              + values[i]
              + " came at "
              + i
              + ", expected "
              + right
              + " within "
              + tolerance);
    }
  }

  private static Object elements(Tensor tensor) {
    return switch (tensor.type()) {
      case STRING -> tensor.to(String[].class);
      case BOOL -> tensor.to(boolean[].class);
      case FLOAT16 -> tensor.to(short[].class);
      default -> tensor.doubles();
    };
  }

  static void error(ExplainException actual, JsonObject expected) {
    String said = " (" + actual.getMessage() + ")";
    Wrong.unlessEqual("code" + said, actual.code().name(), Asked.text(expected, "code"));
    if (expected.has("field")) {
      Wrong.unlessEqual("field" + said, actual.field(), Asked.text(expected, "field"));
    }
    String word = Asked.text(expected, "word");
    Wrong.unless(actual.getMessage().contains(word), "the message lacks \"" + word + "\"" + said);
  }

  static void listed(List<ModelSummary> actual, JsonArray expected) {
    for (JsonElement one : expected) {
      JsonObject model = one.getAsJsonObject();
      Wrong.unless(
          actual.stream()
              .anyMatch(
                  m ->
                      m.name().equals(Asked.text(model, "name"))
                          && m.version().equals(Asked.text(model, "version"))
                          && state(m).equals(Asked.text(model, "state"))),
          model + " is not among " + actual);
    }
  }

  /** Compares both sides as JSON. */
  static void detail(ModelDetail actual, JsonObject expected) {
    Map<String, Object> held = new LinkedHashMap<>();
    held.put("name", actual.summary().name());
    held.put("version", actual.summary().version());
    held.put("state", state(actual.summary()));
    held.put("description", actual.summary().description());
    held.put("lrp_supported", actual.lrpSupported());
    held.put("inputs", specs(actual.inputs()));
    held.put("outputs", specs(actual.outputs()));
    held.put("class_names", actual.classNames());
    held.put("text_inputs", actual.textInputs());
    held.put("batch_axes", actual.batchAxes());
    held.put("time_axes", actual.timeAxes());
    held.put("guessed_axes", actual.guessedAxes());
    held.put("background_samples", actual.backgroundSamples());
    held.put("examples", actual.examples());
    held.put("feature_groups", actual.featureGroups());
    for (String name : expected.keySet()) {
      if (name.equals("default_method")) {
        method(actual.defaultMethod(), expected.getAsJsonObject(name));
      } else {
        Wrong.unlessEqual(name, GSON.toJsonTree(held.get(name)), expected.get(name));
      }
    }
  }

  /** Returns only the parameters that are named. */
  private static void method(Method actual, JsonObject expected) {
    Method built = Asked.method(expected);
    Wrong.unlessEqual("default_method", actual.getClass(), built.getClass());
    for (var component : built.getClass().getRecordComponents()) {
      JsonObject named =
          expected.has("parameters") ? expected.getAsJsonObject("parameters") : new JsonObject();
      if (named.has(Asked.snake(component.getName()))) {
        try {
          var accessor = component.getAccessor();
          Wrong.unlessEqual(
              "default_method." + component.getName(),
              accessor.invoke(actual),
              accessor.invoke(built));
        } catch (ReflectiveOperationException impossible) {
          throw new AssertionError(impossible);
        }
      }
    }
  }

  private static JsonObject specs(Map<String, TensorSpec> specs) {
    JsonObject out = new JsonObject();
    specs.forEach(
        (name, spec) -> {
          JsonArray shape = new JsonArray();
          for (String extent : spec.shape()) {
            shape.add(
                extent.matches("\\d+")
                    ? new JsonPrimitive(Long.valueOf(extent))
                    : new JsonPrimitive(extent));
          }
          JsonObject one = new JsonObject();
          one.addProperty("dtype", spec.type().name().toLowerCase(Locale.ROOT));
          one.add("shape", shape);
          out.add(name, one);
        });
    return out;
  }

  private static String state(ModelSummary model) {
    return String.valueOf(model.state()).toLowerCase(Locale.ROOT);
  }
}

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

/** What has to come, from a case's JSON; all of it throws {@link Wrong} if something else came. */
final class Expected {
  private static final Gson GSON = new Gson();

  private Expected() {}

  static void result(Result came, JsonObject wanted) {
    if (wanted.has("model")) {
      Wrong.unlessEqual("model", came.model(), Asked.text(wanted, "model"));
    }
    if (wanted.has("version")) {
      Wrong.unlessEqual("version", came.version(), Asked.text(wanted, "version"));
    }
    Map.of(
            "relevance", came.relevance(),
            "outputs", came.outputs(),
            "captured", came.captured(),
            "tokens", came.tokens())
        .forEach((where, tensors) -> tensors(where, tensors, wanted));
    if (wanted.has("warnings")) {
      warnings(came.warnings(), wanted.getAsJsonArray("warnings"));
    }
    if (wanted.has("explained_quantity")) {
      Wrong.unlessEqual(
          "explained_quantity", came.explainedQuantity(), Asked.text(wanted, "explained_quantity"));
    }
    if (wanted.has("explained")) {
      tensor("explained", came.explained(), wanted.getAsJsonObject("explained"));
    }
    if (wanted.has("ledger")) {
      ledger(came, wanted.getAsJsonObject("ledger"));
    }
  }

  private static void warnings(List<String> came, JsonArray beginnings) {
    Wrong.unlessEqual("the number of warnings " + came, came.size(), beginnings.size());
    for (int i = 0; i < came.size(); i++) {
      String wanted = beginnings.get(i).getAsString();
      Wrong.unless(
          came.get(i).startsWith(wanted),
          "the warning \"" + came.get(i) + "\" came, wanted " + wanted);
    }
  }

  private static void tensors(String where, Map<String, Tensor> came, JsonObject expect) {
    if (!expect.has(where)) {
      return;
    }
    JsonObject wanted = expect.getAsJsonObject(where);
    Wrong.unlessEqual(where, came.keySet(), wanted.keySet());
    came.forEach(
        (name, tensor) -> tensor(where + "." + name, tensor, wanted.getAsJsonObject(name)));
  }

  private static void ledger(Result came, JsonObject wanted) {
    Ledger ledger = came.ledger();
    Map<String, Tensor> parts =
        Map.of(
            "inputs", ledger.inputs(),
            "initial_states", ledger.initialStates(),
            "absorbed", ledger.absorbed());
    parts.forEach(
        (name, tensor) -> {
          if (wanted.has(name)) {
            tensor("ledger." + name, tensor, wanted.getAsJsonObject(name));
          }
        });
    if (wanted.has("balance")) {
      double[] missing = came.explained().doubles();
      for (Tensor part :
          List.of(ledger.inputs(), ledger.initialStates(), ledger.absorbed(), ledger.residual())) {
        double[] values = part.doubles();
        for (int i = 0; i < missing.length; i++) {
          missing[i] -= values[i];
        }
      }
      double allowed = wanted.get("balance").getAsDouble();
      for (double gap : missing) {
        Wrong.unless(
            Math.abs(gap) <= allowed, "ledger: " + gap + " is missing, allowed " + allowed);
      }
    }
  }

  private static void tensor(String where, Tensor came, JsonObject wanted) {
    String dtype = Asked.text(wanted, "dtype");
    String type = came.type().name().toLowerCase(Locale.ROOT);
    Wrong.unless(
        type.equals(dtype) || dtype.equals("float") && type.matches("float(32|64)"),
        where + ": " + type + " came, wanted " + dtype);
    Wrong.unlessEqual(where, GSON.toJsonTree(came.shape()), wanted.get("shape"));
    if (!wanted.has("tolerance")) {
      Tensor exact = Asked.tensor(wanted);
      Wrong.unless(
          came.equals(exact),
          where + ": " + GSON.toJson(elements(came)) + " came, wanted " + wanted.get("data"));
      return;
    }
    double tolerance = wanted.get("tolerance").getAsDouble();
    double[] values = came.doubles();
    JsonArray data = wanted.getAsJsonArray("data");
    for (int i = 0; i < values.length; i++) {
      double right = data.get(i).getAsDouble();
      Wrong.unless(
          Math.abs(values[i] - right) <= tolerance,
          where
              + ": "
              + values[i]
              + " came at "
              + i
              + ", wanted "
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

  static void error(ExplainException came, JsonObject wanted) {
    String said = " (" + came.getMessage() + ")";
    Wrong.unlessEqual("code" + said, came.code().name(), Asked.text(wanted, "code"));
    if (wanted.has("field")) {
      Wrong.unlessEqual("field" + said, came.field(), Asked.text(wanted, "field"));
    }
    String word = Asked.text(wanted, "word");
    Wrong.unless(came.getMessage().contains(word), "the message lacks \"" + word + "\"" + said);
  }

  static void listed(List<ModelSummary> came, JsonArray wanted) {
    for (JsonElement one : wanted) {
      JsonObject model = one.getAsJsonObject();
      Wrong.unless(
          came.stream()
              .anyMatch(
                  m ->
                      m.name().equals(Asked.text(model, "name"))
                          && m.version().equals(Asked.text(model, "version"))
                          && state(m).equals(Asked.text(model, "state"))),
          model + " is not among " + came);
    }
  }

  /** Compares both sides as JSON. */
  static void detail(ModelDetail came, JsonObject wanted) {
    Map<String, Object> held = new LinkedHashMap<>();
    held.put("name", came.summary().name());
    held.put("version", came.summary().version());
    held.put("state", state(came.summary()));
    held.put("description", came.summary().description());
    held.put("lrp_supported", came.lrpSupported());
    held.put("inputs", specs(came.inputs()));
    held.put("outputs", specs(came.outputs()));
    held.put("class_names", came.classNames());
    held.put("text_inputs", came.textInputs());
    held.put("batch_axes", came.batchAxes());
    held.put("time_axes", came.timeAxes());
    held.put("guessed_axes", came.guessedAxes());
    held.put("background_samples", came.backgroundSamples());
    for (String name : wanted.keySet()) {
      if (name.equals("default_method")) {
        method(came.defaultMethod(), wanted.getAsJsonObject(name));
      } else {
        Wrong.unlessEqual(name, GSON.toJsonTree(held.get(name)), wanted.get(name));
      }
    }
  }

  /** Of the parameters those that are named. */
  private static void method(Method came, JsonObject wanted) {
    Method built = Asked.method(wanted);
    Wrong.unlessEqual("default_method", came.getClass(), built.getClass());
    for (var component : built.getClass().getRecordComponents()) {
      JsonObject named =
          wanted.has("parameters") ? wanted.getAsJsonObject("parameters") : new JsonObject();
      if (named.has(Asked.snake(component.getName()))) {
        try {
          var accessor = component.getAccessor();
          Wrong.unlessEqual(
              "default_method." + component.getName(),
              accessor.invoke(came),
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

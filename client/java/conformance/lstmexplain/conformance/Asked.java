// SPDX-License-Identifier: Apache-2.0

package lstmexplain.conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.lang.reflect.RecordComponent;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.StreamSupport;
import lstmexplain.Every;
import lstmexplain.Groups;
import lstmexplain.Measure;
import lstmexplain.MeasureKind;
import lstmexplain.Method;
import lstmexplain.ModelRoute;
import lstmexplain.Request;
import lstmexplain.Target;
import lstmexplain.TargetSet;
import lstmexplain.Tensor;

/** What a case asks, from its JSON. */
final class Asked {
  private Asked() {}

  static Request request(JsonObject said, String id) {
    Request out = Request.of(text(said, "model")).version(text(said, "version")).id(id);
    if (said.has("inputs")) {
      for (var input : tensors(said.getAsJsonObject("inputs")).entrySet()) {
        out = out.input(input.getKey(), input.getValue());
      }
    }
    if (said.has("capture")) {
      out = out.capture(strings(said.getAsJsonArray("capture")));
    }
    if (said.has("receipt") && said.get("receipt").getAsBoolean()) {
      out = out.withReceipt();
    }
    if (said.has("condition")) {
      out = out.condition(text(said, "condition"));
    }
    if (said.has("through")) {
      JsonObject through = said.getAsJsonObject("through");
      for (String value : through.keySet()) {
        out = out.through(value, longs(through, value).stream().mapToLong(Long::longValue).toArray());
      }
    }
    if (said.has("groups")) {
      out = out.groups(groups(said.getAsJsonObject("groups")));
    }
    if (said.has("method")) {
      out = out.method(method(said.getAsJsonObject("method")));
    }
    if (said.has("targets")) {
      out =
          out.targets(
              said.getAsJsonArray("targets").asList().stream()
                  .map(set -> targets(set.getAsJsonObject()))
                  .toArray(TargetSet[]::new));
    }
    return said.has("target") ? out.target(target(said.getAsJsonObject("target"))) : out;
  }

  private static Groups groups(JsonObject said) {
    Groups out = Groups.allSteps();
    if (said.has("window")) {
      out = Groups.window(said.get("window").getAsInt());
    } else if (said.has("words")) {
      out = Groups.ofWords();
    } else if (said.has("change_points")) {
      JsonObject cuts = said.getAsJsonObject("change_points");
      out =
          Groups.segments(
              new Groups.ChangePoints(
                  cuts.has("segments") ? cuts.get("segments").getAsInt() : null,
                  cuts.has("penalty") ? cuts.get("penalty").getAsDouble() : null));
    }
    if (said.has("features")) {
      for (JsonElement each : said.getAsJsonArray("features")) {
        JsonObject group = each.getAsJsonObject();
        List<String> members = List.of(strings(group.getAsJsonArray("features")));
        out =
            out.features(
                new Groups.FeatureGroup(text(group, "name"), text(group, "input"), members));
      }
    }
    return out;
  }

  static ModelRoute route(JsonObject said) {
    return new ModelRoute(
        text(said, "default_version"),
        text(said, "canary_version"),
        said.get("canary_share").getAsDouble(),
        text(said, "previous_version"));
  }

  private static TargetSet targets(JsonObject said) {
    if (said.has("target")) {
      return target(said.getAsJsonObject("target"));
    } else if (!said.has("every")) {
      return TargetSet.DEFAULT;
    }
    JsonObject every = said.getAsJsonObject("every");
    return new Every(
        every.has("axis") ? every.get("axis").getAsInt() : -1,
        longs(every, "entries"),
        every.has("target") ? target(every.getAsJsonObject("target")) : null);
  }

  static Tensor tensor(JsonObject said) {
    JsonArray data = said.getAsJsonArray("data");
    int[] shape =
        StreamSupport.stream(said.getAsJsonArray("shape").spliterator(), false)
            .mapToInt(JsonElement::getAsInt)
            .toArray();
    int count = data.size();
    switch (text(said, "dtype")) {
      case "float32":
        float[] floats = new float[count];
        for (int i = 0; i < count; i++) {
          floats[i] = data.get(i).getAsFloat();
        }
        return Tensor.of(floats, shape);
      case "float64":
        double[] doubles = new double[count];
        Arrays.setAll(doubles, i -> data.get(i).getAsDouble());
        return Tensor.of(doubles, shape);
      case "float16":
        return Tensor.float16(new short[count], shape); // of no case do the values matter
      case "int32":
        int[] ints = new int[count];
        Arrays.setAll(ints, i -> data.get(i).getAsInt());
        return Tensor.of(ints, shape);
      case "int64":
        long[] longs = new long[count];
        Arrays.setAll(longs, i -> data.get(i).getAsLong());
        return Tensor.of(longs, shape);
      case "bool":
        boolean[] booleans = new boolean[count];
        for (int i = 0; i < count; i++) {
          booleans[i] = data.get(i).getAsBoolean();
        }
        return Tensor.of(booleans, shape);
      case "string":
        return Tensor.of(strings(data), shape);
      default:
        throw new Wrong("the dtype " + said.get("dtype"));
    }
  }

  static Map<String, Tensor> tensors(JsonObject said) {
    Map<String, Tensor> out = new LinkedHashMap<>();
    said.entrySet().forEach(e -> out.put(e.getKey(), tensor(e.getValue().getAsJsonObject())));
    return out;
  }

  /** Records of methods have the parameters of the case in camel case. */
  static Method method(JsonObject said) {
    String name = text(said, "name");
    Class<?> kind =
        Arrays.stream(Method.class.getPermittedSubclasses())
            .filter(k -> snake(k.getSimpleName()).equals(name))
            .findFirst()
            .orElseThrow(() -> new Wrong("the method " + name));
    JsonObject parameters =
        said.has("parameters") ? said.getAsJsonObject("parameters") : new JsonObject();
    RecordComponent[] components = kind.getRecordComponents();
    List<String> known = Arrays.stream(components).map(c -> snake(c.getName())).toList();
    Wrong.unless(known.containsAll(parameters.keySet()), name + " has not all of " + parameters);
    try {
      return (Method)
          kind.getDeclaredConstructor(
                  Arrays.stream(components).map(RecordComponent::getType).toArray(Class[]::new))
              .newInstance(
                  Arrays.stream(components)
                      .map(c -> parameter(parameters.get(snake(c.getName())), c.getType()))
                      .toArray());
    } catch (ReflectiveOperationException impossible) {
      throw new AssertionError(impossible);
    }
  }

  private static Object parameter(JsonElement said, Class<?> type) {
    if (type == Map.class) {
      return said == null ? Map.of() : tensors(said.getAsJsonObject());
    } else if (said == null) {
      return null;
    } else if (type == Double.class) {
      return said.getAsDouble();
    } else if (type == Integer.class) {
      return said.getAsInt();
    } else if (type == Long.class) {
      return said.getAsLong();
    } else if (type.isEnum()) {
      return Arrays.stream(type.getEnumConstants())
          .filter(c -> c.toString().toLowerCase(Locale.ROOT).equals(said.getAsString()))
          .findFirst()
          .orElseThrow(() -> new Wrong("the choice " + said));
    }
    throw new Wrong("a parameter of type " + type);
  }

  static Target target(JsonObject said) {
    Target out = new Target().output(text(said, "output"));
    return new Target(
        out.output(),
        longs(said, "indices"),
        longs(said, "contrast_indices"),
        said.has("weights") ? tensor(said.getAsJsonObject("weights")) : null,
        said.has("batch_axis") ? said.get("batch_axis").getAsInt() : null,
        said.has("no_batch_axis") && said.get("no_batch_axis").getAsBoolean(),
        said.has("pre_activation") ? said.get("pre_activation").getAsBoolean() : null,
        said.has("measure") ? measure(said.getAsJsonObject("measure")) : null);
  }

  private static Measure measure(JsonObject said) {
    return new Measure(
        MeasureKind.valueOf(text(said, "kind").toUpperCase(Locale.ROOT)),
        text(said, "input"),
        said.has("tensor") ? tensor(said.getAsJsonObject("tensor")) : null,
        said.has("ahead") ? said.get("ahead").getAsInt() : 0,
        said.has("blank") ? said.get("blank").getAsInt() : null);
  }

  private static List<Long> longs(JsonObject said, String name) {
    JsonArray array = said.has(name) ? said.getAsJsonArray(name) : new JsonArray();
    return array.asList().stream().map(JsonElement::getAsLong).toList();
  }

  static String[] strings(JsonArray array) {
    return array.asList().stream().map(JsonElement::getAsString).toArray(String[]::new);
  }

  /** Empty where nothing is said. */
  static String text(JsonObject said, String name) {
    return said.has(name) ? said.get(name).getAsString() : "";
  }

  static String snake(String camel) {
    return camel.replaceAll("(?<=.)(?=[A-Z])", "_").toLowerCase(Locale.ROOT);
  }
}

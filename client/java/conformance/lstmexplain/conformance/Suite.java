// SPDX-License-Identifier: Apache-2.0

package lstmexplain.conformance;

import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import lstmexplain.Answer;
import lstmexplain.Client;
import lstmexplain.ExplainException;
import lstmexplain.ModelImport;
import lstmexplain.ModelRoute;
import lstmexplain.Operation;
import lstmexplain.ProgressListener;
import lstmexplain.Request;
import lstmexplain.Result;
import lstmexplain.TargetSet;

/** One pass over the cases on one kind of connection; a line of JSON to stdout for each. */
final class Suite {
  private static final Gson GSON = new Gson();

  private final Connector connector;
  private final String token;
  private final String over;
  private final Path models;
  private boolean good = true;

  /** Makes a client that sends this token, unless it is empty. */
  @FunctionalInterface
  interface Connector {
    Client connect(String token) throws Exception;
  }

  Suite(Connector connector, String token, String over, Path models) {
    this.connector = connector;
    this.token = token;
    this.over = over;
    this.models = models;
  }

  /** True if every case holds. */
  boolean run(Path cases, Path golden) throws Exception {
    try (Stream<Path> files = Files.list(cases)) {
      for (Path path : files.filter(p -> p.toString().endsWith(".json")).sorted().toList()) {
        JsonObject one = json(path).getAsJsonObject();
        if (one.has("over") && !GSON.fromJson(one.get("over"), List.class).contains(over)) {
          continue;
        }
        Map<String, String> found = new TreeMap<>();
        say(Asked.text(one, "name"), found, () -> run(one, found));
      }
    }
    for (JsonElement entry : json(golden.resolve("index.json")).getAsJsonArray()) {
      String name = Asked.text(entry.getAsJsonObject(), "name");
      String message = Asked.text(entry.getAsJsonObject(), "message");
      byte[] encoded = Files.readAllBytes(golden.resolve(name + ".bin"));
      say("golden/" + name, new TreeMap<>(), () -> Golden.check(message, encoded));
    }
    return good;
  }

  private interface Check {
    void run() throws Exception;
  }

  private void say(String name, Map<String, String> found, Check check) {
    String detail = "";
    boolean ok = true;
    try {
      check.run();
    } catch (Exception wrong) {
      ok = false;
      detail = wrong instanceof Wrong ? wrong.getMessage() : wrong.toString();
      found.clear();
    }
    good &= ok;
    JsonObject line = new JsonObject();
    line.addProperty("case", name);
    line.addProperty("ok", ok);
    line.addProperty("detail", detail);
    line.add("relevance", GSON.toJsonTree(found));
    System.out.println(GSON.toJson(line));
  }

  private void run(JsonObject one, Map<String, String> found) throws Exception {
    try (Client client = connector.connect(one.has("token") ? Asked.text(one, "token") : token)) {
      if (!one.has("expect_error")) {
        call(client, one, found);
        return;
      }
      try {
        call(client, one, found);
      } catch (ExplainException actual) {
        Expected.error(actual, one.getAsJsonObject("expect_error"));
        found.clear();
        return;
      }
      throw new Wrong("an answer came, expected " + one.get("expect_error"));
    }
  }

  private void call(Client client, JsonObject one, Map<String, String> found) throws Exception {
    JsonObject expect = one.has("expect") ? one.getAsJsonObject("expect") : new JsonObject();
    switch (Asked.text(one, "call")) {
      case "explain" -> explain(client, one, expect, found);
      case "explain_many" -> explainMany(client, one, expect, found);
      case "explain_stream" -> stream(client, one, found);
      case "models" -> Expected.listed(client.models(), expect.getAsJsonArray("models"));
      case "model" ->
          Expected.detail(
              client.model(Asked.text(one, "model"), Asked.text(one, "version")),
              expect.getAsJsonObject("detail"));
      case "import_model" -> imported(client, one, expect, found);
      case "route_model" -> routed(client, one, expect);
      case "operation" -> operation(client, one, expect, found);
      default -> throw new Wrong("the call " + one.get("call"));
    }
  }

  private static void routed(Client client, JsonObject one, JsonObject expect) {
    String model = Asked.text(one, "model");
    ModelRoute chosen = client.routeModel(model, Asked.route(one.getAsJsonObject("route")));
    ModelRoute back = client.rollBackModel(model);
    Wrong.unlessEqual("the route", chosen, Asked.route(expect.getAsJsonObject("route")));
    Wrong.unlessEqual(
        "the route that is rolled back", back, Asked.route(expect.getAsJsonObject("rolled_back")));
  }

  private static void operation(
      Client client, JsonObject one, JsonObject expect, Map<String, String> found) {
    Request asked = Asked.request(one.getAsJsonObject("request"), "");
    String name = client.start(asked).name();
    Operation ended = client.waitForOperation(name);
    Wrong.unlessEqual("the state", ended.state(), "succeeded");
    Result result = ended.result();
    Digests.add(result, "", found);
    Expected.result(result, expect);
    if (client.operations().stream().noneMatch(operation -> operation.name().equals(name))) {
      throw new Wrong("the operation is not listed");
    }
    Wrong.unlessEqual(
        "the relevance of the call", client.explain(asked).relevance(), result.relevance());
    client.cancelOperation(name);
    client.deleteOperation(name);
    try {
      client.operation(name);
    } catch (ExplainException.ModelNotFound gone) {
      return;
    }
    throw new Wrong("the operation is there after it was deleted");
  }

  private static void explain(
      Client client, JsonObject one, JsonObject expect, Map<String, String> found) {
    Result actual = explain(client, one.getAsJsonObject("request"));
    Digests.add(actual, "", found);
    Expected.result(actual, expect);
  }

  private static void explainMany(
      Client client, JsonObject one, JsonObject expect, Map<String, String> found) {
    Request asked = Asked.request(one.getAsJsonObject("request"), "");
    List<Result> actual = client.explainMany(asked);
    check(actual, expect, "", found);
    List<JsonElement> singles = expect.getAsJsonArray("singles").asList();
    for (int i = 0; i < singles.size(); i++) {
      Request single = asked.targets(new TargetSet[0]).target(Asked.target(singles.get(i).getAsJsonObject()));
      Wrong.unlessEqual(
          "target " + i + " alone", client.explain(single).relevance(), actual.get(i).relevance());
    }
  }

  /** The number of the target precedes the names of the digests. */
  private static void check(
      List<Result> actual, JsonObject expect, String prefix, Map<String, String> found) {
    JsonArray expected = expect.getAsJsonArray("results");
    Wrong.unlessEqual("the number of results", actual.size(), expected.size());
    for (int i = 0; i < actual.size(); i++) {
      Digests.add(actual.get(i), prefix + i + "/", found);
      Expected.result(actual.get(i), expected.get(i).getAsJsonObject());
    }
  }

  /** A caller who has enough interrupts the thread that waits. */
  private static Result explain(Client client, JsonObject said) {
    Request request = Asked.request(said, "");
    CompletableFuture<?> interruption = CompletableFuture.completedFuture(null);
    if (said.has("cancel_after_ms")) {
      long wait = said.get("cancel_after_ms").getAsLong();
      interruption =
          CompletableFuture.runAsync(
              Thread.currentThread()::interrupt,
              CompletableFuture.delayedExecutor(wait, TimeUnit.MILLISECONDS));
    }
    try {
      return said.has("deadline_ms")
          ? client.explain(request, Duration.ofMillis(said.get("deadline_ms").getAsLong()))
          : client.explain(request);
    } finally {
      interruption.cancel(false);
      Thread.interrupted();
    }
  }

  private static void stream(Client client, JsonObject one, Map<String, String> found) {
    List<Request> asked =
        one.getAsJsonArray("requests").asList().stream()
            .map(JsonElement::getAsJsonObject)
            .map(item -> Asked.request(item.getAsJsonObject("request"), Asked.text(item, "id")))
            .toList();
    JsonObject answers = one.getAsJsonObject("answers");
    Set<String> seen = new TreeSet<>();
    Set<String> reported = new TreeSet<>();
    ProgressListener progress =
        (id, done, total) -> {
          reported.add(id);
          boolean inOrder = !seen.contains(id) && done >= 0 && done <= total;
          Wrong.unless(inOrder, id + ": progress " + done + " of " + total);
        };
    try (Stream<Answer> actual =
        client.explainStream(asked, null, one.has("progress") ? progress : null)) {
      for (Iterator<Answer> each = actual.iterator(); each.hasNext(); ) {
        Answer answer = each.next();
        Wrong.unless(
            answers.has(answer.id()) && seen.add(answer.id()),
            "an answer to \"" + answer.id() + "\" came");
        check(answer, answers.getAsJsonObject(answer.id()), found);
      }
    }
    Wrong.unlessEqual("answers", seen, answers.keySet());
    if (one.has("progress")) {
      Set<String> expected = new TreeSet<>();
      one.getAsJsonArray("progress").forEach(id -> expected.add(id.getAsString()));
      Wrong.unlessEqual("progress", reported, expected);
    }
  }

  private static void check(Answer answer, JsonObject expected, Map<String, String> found) {
    if (expected.has("expect_error")) {
      Wrong.unless(answer.error() != null, answer.id() + ": a result came, expected an error");
      Expected.error(answer.error(), expected.getAsJsonObject("expect_error"));
      return;
    }
    JsonObject expect = expected.getAsJsonObject("expect");
    if (expect.has("results")) {
      check(answer.manyOrThrow(), expect, answer.id() + "/", found);
      return;
    }
    Result result = answer.orThrow();
    Digests.add(result, answer.id() + "/", found);
    Expected.result(result, expect);
  }

  private void imported(Client client, JsonObject one, JsonObject expect, Map<String, String> found)
      throws IOException {
    JsonObject said = one.getAsJsonObject("import");
    String name = Asked.text(said, "name");
    var detail =
        client.importModel(
            ModelImport.of(name, models.resolve(Asked.text(said, "model")))
                .version(Asked.text(said, "version"))
                .config(Asked.text(said, "config")));
    try {
      if (expect.has("detail")) {
        Expected.detail(detail, expect.getAsJsonObject("detail"));
      }
      explain(client, one, expect, found);
    } finally {
      client.deleteModel(name);
    }
    try {
      explain(client, one.getAsJsonObject("request"));
    } catch (ExplainException.ModelNotFound gone) {
      return;
    }
    throw new Wrong("the model answers after it was deleted");
  }

  private static JsonElement json(Path path) throws IOException {
    return JsonParser.parseString(Files.readString(path));
  }
}

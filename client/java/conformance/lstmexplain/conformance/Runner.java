// SPDX-License-Identifier: Apache-2.0

package lstmexplain.conformance;

import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import lstmexplain.Client;
import lstmexplain.ClientBuilder;
import lstmexplain.Method;
import lstmexplain.Request;

/**
 * Runs the conformance cases through the Java client; tests/conformance/README.md has the rules.
 */
public final class Runner {
  private static final String SENTENCE =
      "neither funny nor suspenseful nor particularly well-drawn";
  private static final int WARM_UP = 20;

  private final Map<String, String> flags = new HashMap<>();

  private Runner(String[] arguments) {
    if (arguments.length % 2 == 0) {
      throw new IllegalArgumentException("usage: conformance|latency, then flags with values");
    }
    for (int i = 1; i < arguments.length; i += 2) {
      flags.put(arguments[i].replaceFirst("^--", ""), arguments[i + 1]);
    }
  }

  /** Exit code 1: a case failed; 2: the runner could not run. */
  public static void main(String[] arguments) {
    try {
      System.exit(new Runner(arguments).run(arguments[0]) ? 0 : 1);
    } catch (Exception failed) {
      failed.printStackTrace();
      System.exit(2);
    }
  }

  private boolean run(String command) throws Exception {
    switch (command) {
      case "conformance":
        return new Suite(
                this::connect,
                flags.getOrDefault("token", ""),
                flags.containsKey("ca") ? "tls" : "plain",
                Path.of(flags.get("models")))
            .run(Path.of(flags.get("cases")), Path.of(flags.get("golden")));
      case "latency":
        try (Client client = connect(flags.getOrDefault("token", ""))) {
          latency(client, flags.get("model"), Integer.parseInt(flags.get("calls")));
        }
        return true;
      default:
        throw new IllegalArgumentException(command + " is neither conformance nor latency");
    }
  }

  private Client connect(String token) throws Exception {
    ClientBuilder builder = Client.builder(flags.get("address"));
    if (flags.containsKey("ca")) {
      builder.authority(Path.of(flags.get("ca")));
    }
    if (flags.containsKey("cert")) {
      builder.identity(Path.of(flags.get("cert")), Path.of(flags.get("key")));
    }
    if (!token.isEmpty()) {
      builder.token(token);
    }
    return builder.build();
  }

  private static void latency(Client client, String model, int calls) {
    Request request = Request.of(model).input("tokens", SENTENCE).method(new Method.Lrp());
    double[] taken = new double[calls];
    for (int i = -WARM_UP; i < calls; i++) {
      long began = System.nanoTime();
      client.explain(request, Duration.ofMinutes(1));
      if (i >= 0) {
        taken[i] = (System.nanoTime() - began) / 1e6;
      }
    }
    Arrays.sort(taken);
    System.out.printf(
        Locale.ROOT,
        "{\"client\": \"java\", \"calls\": %d, \"p50_ms\": %.3f, \"p99_ms\": %.3f}%n",
        calls,
        taken[Math.min(calls - 1, calls / 2)],
        taken[Math.min(calls - 1, (int) (0.99 * calls))]);
  }
}

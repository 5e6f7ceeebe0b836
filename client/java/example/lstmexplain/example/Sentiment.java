// SPDX-License-Identifier: Apache-2.0

package lstmexplain.example;

import java.time.Duration;
import java.util.Locale;
import lstmexplain.Client;
import lstmexplain.Ledger;
import lstmexplain.Request;
import lstmexplain.Result;

/** Explains a sentence with the model sentiment. Arguments: address and sentence, or neither. */
public final class Sentiment {
  private Sentiment() {}

  /** Prints a line for each word: its relevance and the word. */
  public static void main(String[] arguments) {
    String address = arguments.length > 0 ? arguments[0] : "127.0.0.1:50051";
    String sentence =
        arguments.length > 1
            ? arguments[1]
            : "neither funny nor suspenseful nor particularly well-drawn";
    try (Client client = Client.connect(address)) {
      Request request = Request.of("sentiment").input("tokens", sentence);
      Result result = client.explain(request, Duration.ofSeconds(10));
      String[] words = result.tokens().get("tokens").to(String[].class);
      float[] relevance = result.relevance().get("tokens").to(float[].class);
      for (int i = 0; i < words.length; i++) {
        System.out.printf(Locale.ROOT, "%+8.3f  %s%n", relevance[i], words[i]);
      }
      Ledger ledger = result.ledger();
      System.out.printf(
          Locale.ROOT,
          "class %d: %.3f explained = %.3f words %+.3f absorbed %+.1e rounding%n",
          result.target().indices().get(0),
          result.explained().doubles()[0],
          ledger.inputs().doubles()[0],
          ledger.absorbed().doubles()[0],
          ledger.residual().doubles()[0]);
    }
  }
}

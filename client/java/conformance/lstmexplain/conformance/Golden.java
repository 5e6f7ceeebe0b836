// SPDX-License-Identifier: Apache-2.0

package lstmexplain.conformance;

import com.google.protobuf.Message;
import com.google.protobuf.Parser;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;

/** Encoded messages that the stubs decode and encode again. */
final class Golden {
  private Golden() {}

  /** Checks that decoding and encoding return the same bytes, without a field the stubs lack. */
  static void check(String message, byte[] encoded) throws Exception {
    Class<?> stub = Class.forName(message.replace("lstm_explain.", "lstmexplain."));
    var parser = (Parser<?>) stub.getMethod("parser").invoke(null);
    Message decoded = (Message) parser.parseFrom(encoded);
    byte[] again = decoded.toByteArray();
    Wrong.unless(
        Arrays.equals(encoded, again),
        HexFormat.of().formatHex(encoded) + " became " + HexFormat.of().formatHex(again));
    known(decoded);
  }

  private static void known(Message message) {
    Wrong.unless(message.getUnknownFields().asMap().isEmpty(), "a field is not known: " + message);
    for (Object value : message.getAllFields().values()) {
      for (Object held : value instanceof List<?> list ? list : List.of(value)) {
        if (held instanceof Message inner) {
          known(inner);
        }
      }
    }
  }
}

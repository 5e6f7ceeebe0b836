// SPDX-License-Identifier: Apache-2.0

package lstmexplain.conformance;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.Map;
import lstmexplain.Result;
import lstmexplain.Tensor;

/** Identifies relevance to the bit. */
final class Digests {
  private Digests() {}

  /** Adds the digest of the elements of each input's relevance, row-major and little-endian. */
  static void add(Result actual, String prefix, Map<String, String> found) {
    actual.relevance()
        .forEach(
            (name, tensor) -> {
              try {
                byte[] sum = MessageDigest.getInstance("SHA-256").digest(bytes(tensor));
                found.put(prefix + name, HexFormat.of().formatHex(sum));
              } catch (NoSuchAlgorithmException impossible) {
                throw new AssertionError(impossible);
              }
            });
  }

  private static byte[] bytes(Tensor tensor) {
    ByteBuffer out = ByteBuffer.allocate(tensor.size() * Double.BYTES);
    out.order(ByteOrder.LITTLE_ENDIAN);
    switch (tensor.type()) {
      case FLOAT32 -> {
        for (float value : tensor.to(float[].class)) {
          out.putFloat(value);
        }
      }
      case FLOAT64 -> {
        for (double value : tensor.to(double[].class)) {
          out.putDouble(value);
        }
      }
      default -> throw new Wrong("relevance of type " + tensor.type());
    }
    return Arrays.copyOf(out.array(), out.position());
  }
}

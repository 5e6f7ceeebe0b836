// SPDX-License-Identifier: Apache-2.0

package lstmexplain.conformance;

/** A case does not hold; the message says what was expected and what came. */
final class Wrong extends RuntimeException {
  Wrong(String detail) {
    super(detail);
  }

  /** Throws unless the two are equal. */
  static void unlessEqual(String where, Object actual, Object expected) {
    unless(expected.equals(actual), where + ": " + actual + " came, expected " + expected);
  }

  static void unless(boolean right, String detail) {
    if (!right) {
      throw new Wrong(detail);
    }
  }
}

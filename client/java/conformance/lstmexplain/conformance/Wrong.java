package lstmexplain.conformance;

/** A case does not hold; the message says what was expected and what came. */
final class Wrong extends RuntimeException {
  Wrong(String detail) {
    super(detail);
  }

  /** Throws unless the two are equal. */
  static void unlessEqual(String where, Object came, Object wanted) {
    unless(wanted.equals(came), where + ": " + came + " came, wanted " + wanted);
  }

  static void unless(boolean right, String detail) {
    if (!right) {
      throw new Wrong(detail);
    }
  }
}

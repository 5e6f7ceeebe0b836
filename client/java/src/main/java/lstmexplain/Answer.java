package lstmexplain;

/**
 * The answer to one request of a stream: a result or an error.
 *
 * @param id the id of the request
 * @param result null if there is an error
 * @param error null if there is a result
 */
public record Answer(String id, Result result, ExplainException error) {

  /** Returns the result, or throws the error. */
  public Result orThrow() {
    if (error != null) {
      throw error;
    }
    return result;
  }
}

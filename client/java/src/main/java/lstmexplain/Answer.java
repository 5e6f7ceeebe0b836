package lstmexplain;

/**
 * What a stream gives back for one request: a result, or why there is none.
 *
 * @param id the request's
 * @param result null if there is an error
 * @param error null if there is a result
 */
public record Answer(String id, Result result, ExplainException error) {

  /** The result. Throws the error, if there is one. */
  public Result orThrow() {
    if (error != null) {
      throw error;
    }
    return result;
  }
}

// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import java.util.List;

/**
 * The answer to one request of a stream: a result, the results of a request with several targets, or
 * an error.
 *
 * @param id the id of the request
 * @param result null if there is an error, or if the request has several targets
 * @param error null if there is a result
 * @param results a result per target of a request with several targets; otherwise empty
 */
public record Answer(String id, Result result, ExplainException error, List<Result> results) {

  /** An answer for one target. */
  public Answer(String id, Result result, ExplainException error) {
    this(id, result, error, List.of());
  }

  /** Returns the result, or throws the error. */
  public Result orThrow() {
    if (error != null) {
      throw error;
    }
    return result;
  }

  /** Returns the results of a request with several targets, or throws the error. */
  public List<Result> manyOrThrow() {
    if (error != null) {
      throw error;
    }
    return results;
  }
}

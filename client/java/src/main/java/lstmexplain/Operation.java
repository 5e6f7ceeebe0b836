// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import io.grpc.Status;
import java.time.Instant;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import lstmexplain.v1.ItemError;

/**
 * An explanation or a batch job that the server keeps until it expires, whether or not anybody
 * waits for it, as the server last described it.
 *
 * @param name identifies the operation in all calls
 * @param kind {@code explain} or {@code batch}
 * @param state {@code pending}, {@code running}, {@code succeeded}, {@code failed} or {@code
 *     cancelled}
 * @param version the version of the model, which was chosen at the start
 * @param done runs of the model, or rows of a batch job
 * @param total all that are expected; 0 where nothing is known
 * @param attempts how often it has begun; more than once where a server or one of its processes
 *     ended meanwhile
 * @param ended empty until it has ended
 * @param expires when the server removes it; empty until it has ended
 * @param results that of an explanation with one target, or one per target; empty for others, and
 *     in lists
 * @param batch what a batch job has done
 * @param error why there is no result
 */
public record Operation(
    String name,
    String kind,
    String state,
    String model,
    String version,
    long done,
    long total,
    int attempts,
    Instant created,
    Optional<Instant> ended,
    Optional<Instant> expires,
    List<Result> results,
    Optional<Batch> batch,
    Optional<ExplainException> error) {

  /**
   * What a batch job has done.
   *
   * @param rows rows that are explained
   * @param failed rows that are not
   * @param warned rows with a warning
   * @param worst the largest residual, as a share of the explained value
   */
  public record Batch(long rows, long failed, long warned, double worst) {}

  /** Returns whether it has ended, with or without a result. */
  public boolean hasEnded() {
    return ended.isPresent();
  }

  /**
   * Returns the result of an explanation with one target that has ended.
   *
   * @throws ExplainException the error with which it failed
   */
  public Result result() {
    if (error.isPresent()) {
      throw error.get();
    }
    if (results.size() != 1) {
      throw new IllegalStateException(
          "the operation is " + state + " with " + results.size() + " results");
    }
    return results.get(0);
  }

  static Operation decode(lstmexplain.v1.Operation message) {
    List<Result> results = List.of();
    if (message.hasResponse()) {
      var response = message.getResponse();
      results =
          response.getTargetsCount() > 0
              ? TargetAnswers.decode(response)
              : List.of(Result.decode(response));
    }
    var progress = message.getProgress();
    var batch = message.getBatch();
    return new Operation(
        message.getName(),
        word(message.getKind().name(), "OPERATION_KIND_"),
        word(message.getState().name(), "OPERATION_STATE_"),
        message.getModel(),
        message.getVersion(),
        progress.getDone(),
        progress.getTotal(),
        message.getAttempts(),
        Instant.ofEpochMilli(message.getCreatedMs()),
        moment(message.getEndedMs()),
        moment(message.getExpiresMs()),
        results,
        message.hasBatch()
            ? Optional.of(
                new Batch(batch.getRows(), batch.getFailed(), batch.getWarned(), batch.getWorst()))
            : Optional.empty(),
        message.hasError() ? Optional.of(failure(message.getError())) : Optional.empty());
  }

  private static ExplainException failure(ItemError error) {
    return ExplainException.of(
        Status.fromCodeValue(error.getCode()).getCode(), error.getMessage(), error.getField());
  }

  private static String word(String name, String prefix) {
    return name.replaceFirst(prefix, "").toLowerCase(Locale.ROOT);
  }

  private static Optional<Instant> moment(long milliseconds) {
    return milliseconds > 0 ? Optional.of(Instant.ofEpochMilli(milliseconds)) : Optional.empty();
  }
}

// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

/**
 * Hears how far the long requests of a stream are, at most ten times a second each, and not after
 * their answers. Only methods that run the model many times report.
 */
@FunctionalInterface
public interface ProgressListener {

  /**
   * Receives the progress of one request.
   *
   * @param id the id of the request
   * @param done how often the model has run on the batch
   * @param total how often it is expected to run in all; it can change on the way
   */
  void progress(String id, long done, long total);
}

// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

/**
 * One version of a model.
 *
 * @param name the model's name
 * @param version the name of the version
 * @param state null if this client does not know it
 * @param reason why the version failed to load; for a model that is ready, why newer files could
 *     not be loaded
 * @param description a description of the model
 * @param digest over the files of the version, the same wherever the same files are served
 * @param isDefault whether this version answers requests that name none
 * @param canaryShare the share of these requests that it gets as the canary, from 0 to 1
 */
public record ModelSummary(
    String name,
    String version,
    ModelState state,
    String reason,
    String description,
    String digest,
    boolean isDefault,
    double canaryShare) {

  /** The state of a version of a model. */
  public enum ModelState {
    /** The version is being loaded. */
    LOADING,
    /** The version answers requests. */
    READY,
    /** The version could not be loaded. */
    FAILED,
    /** The version exists but is not in service. */
    UNLOADED
  }
}

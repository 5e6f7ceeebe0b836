// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

/**
 * Which version of a model answers requests that name none.
 *
 * @param defaultVersion empty for the newest version that is ready
 * @param canaryVersion empty for none
 * @param canaryShare the share of the requests that the canary gets, from 0 to 1
 * @param previousVersion the default version before the last change of it; in answers only
 */
public record ModelRoute(
    String defaultVersion, String canaryVersion, double canaryShare, String previousVersion) {

  /** Makes this version the default, without a canary. */
  public static ModelRoute to(String defaultVersion) {
    return new ModelRoute(defaultVersion, "", 0, "");
  }

  /** Returns the same with a canary. */
  public ModelRoute canary(String version, double share) {
    return new ModelRoute(defaultVersion, version, share, previousVersion);
  }
}

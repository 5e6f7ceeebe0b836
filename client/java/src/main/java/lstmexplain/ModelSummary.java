package lstmexplain;

/**
 * One version of a model.
 *
 * @param name the model's name
 * @param version the version's
 * @param state null if this client does not know it
 * @param reason why it failed; or, of a model that is ready, why newer files could not be loaded
 * @param description what the model is
 */
public record ModelSummary(
    String name, String version, ModelState state, String reason, String description) {

  /** What a version of a model is doing. */
  public enum ModelState {
    /** It is being read. */
    LOADING,
    /** It answers. */
    READY,
    /** It could not be loaded. */
    FAILED,
    /** It is there and not in use. */
    UNLOADED
  }
}

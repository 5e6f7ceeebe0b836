package lstmexplain;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

/**
 * A model to add to the server: {@code ModelImport.of("mine", Path.of("model.onnx"))}.
 *
 * @param name the model's name
 * @param version empty: one above the newest
 * @param model the file of the model
 * @param config the text of a model.yaml, or empty
 * @param files what lies beside the model: weights kept apart from it, a tokenizer
 */
public record ModelImport(
    String name, String version, Path model, String config, List<Path> files) {

  /** Checks and copies what is given. */
  public ModelImport {
    Objects.requireNonNull(name, "name");
    Objects.requireNonNull(version, "version");
    Objects.requireNonNull(model, "model");
    Objects.requireNonNull(config, "config");
    files = List.copyOf(files);
  }

  /** A model of one file, as a version above the newest. */
  public static ModelImport of(String name, Path model) {
    return new ModelImport(name, "", model, "", List.of());
  }

  /** The same as this version. */
  public ModelImport version(String wanted) {
    return new ModelImport(name, wanted, model, config, files);
  }

  /** The same with this text as its model.yaml. */
  public ModelImport config(String yaml) {
    return new ModelImport(name, version, model, yaml, files);
  }

  /** The same with another file beside it. */
  public ModelImport file(Path more) {
    List<Path> all = new ArrayList<>(files);
    all.add(more);
    return new ModelImport(name, version, model, config, all);
  }
}

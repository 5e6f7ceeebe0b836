// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

/**
 * A model to add to the server: {@code ModelImport.of("mine", Path.of("model.onnx"))}.
 *
 * @param name the model's name
 * @param version the version; if empty, the newest version plus one
 * @param model the file of the model
 * @param config the text of a model.yaml, or empty
 * @param files additional files of the model: external weights, or a tokenizer
 */
public record ModelImport(
    String name, String version, Path model, String config, List<Path> files) {

  /** Checks and copies the arguments. */
  public ModelImport {
    Objects.requireNonNull(name, "name");
    Objects.requireNonNull(version, "version");
    Objects.requireNonNull(model, "model");
    Objects.requireNonNull(config, "config");
    files = List.copyOf(files);
  }

  /** Creates the import of a model of one file, as the newest version plus one. */
  public static ModelImport of(String name, Path model) {
    return new ModelImport(name, "", model, "", List.of());
  }

  /** Returns a copy with this version. */
  public ModelImport version(String chosen) {
    return new ModelImport(name, chosen, model, config, files);
  }

  /** Returns a copy with this text as its model.yaml. */
  public ModelImport config(String yaml) {
    return new ModelImport(name, version, model, yaml, files);
  }

  /** Returns a copy with another file. */
  public ModelImport file(Path more) {
    List<Path> all = new ArrayList<>(files);
    all.add(more);
    return new ModelImport(name, version, model, config, all);
  }
}

// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import java.util.ArrayList;
import java.util.List;

/**
 * Divides the inputs into groups of entries that belong together, such as days of hourly steps. At
 * most one of window, words and change points is set; without any, all steps belong together.
 *
 * <pre>{@code
 * Groups.window(24).features("weather", "temperature", "rain")
 * }</pre>
 *
 * @param window this many consecutive steps; 0 for none
 * @param words the tokens of each word, in inputs sent as text
 * @param changePoints segments between which the mean of a feature changes; null for none
 * @param features groups of features; features of an input in no group form a group by themselves
 * @param modelFeatures whether to use the feature groups of the model instead
 */
public record Groups(
    int window,
    boolean words,
    ChangePoints changePoints,
    List<FeatureGroup> features,
    boolean modelFeatures) {

  /** Copies the list. */
  public Groups {
    features = List.copyOf(features);
  }

  /**
   * How to cut a time series into segments.
   *
   * @param segments their number at most; null for the default, 10
   * @param penalty what a cut must lower the sum of squared deviations by, in units of the variance
   *     of the noise; null for (features + 1) times the logarithm of the number of steps
   */
  public record ChangePoints(Integer segments, Double penalty) {}

  /**
   * Features of one input that belong together.
   *
   * @param name the group's name
   * @param input the input's name; may be empty if the model has only one input with features
   * @param features names, or positions on the last axis of the input
   */
  public record FeatureGroup(String name, String input, List<String> features) {
    /** Copies the list. */
    public FeatureGroup {
      features = List.copyOf(features);
    }
  }

  /** All features of all steps, to be divided by {@link #features}. */
  public static Groups allSteps() {
    return new Groups(0, false, null, List.of(), false);
  }

  /** Windows of this many consecutive steps. */
  public static Groups window(int steps) {
    return new Groups(steps, false, null, List.of(), false);
  }

  /** The tokens of each word. */
  public static Groups ofWords() {
    return new Groups(0, true, null, List.of(), false);
  }

  /** Segments between which the mean of a feature changes. */
  public static Groups segments(ChangePoints cuts) {
    return new Groups(0, false, cuts, List.of(), false);
  }

  /** Adds a group of features of the only input with features. */
  public Groups features(String name, String... members) {
    return features(new FeatureGroup(name, "", List.of(members)));
  }

  /** Adds a group of features. */
  public Groups features(FeatureGroup group) {
    List<FeatureGroup> more = new ArrayList<>(features);
    more.add(group);
    return new Groups(window, words, changePoints, more, modelFeatures);
  }

  /** Uses the feature groups of the model. */
  public Groups featuresOfModel() {
    return new Groups(window, words, changePoints, List.of(), true);
  }

  lstmexplain.v1.Groups encode() {
    var out = lstmexplain.v1.Groups.newBuilder().setModelFeatures(modelFeatures);
    if (window != 0) {
      out.setWindow(window);
    } else if (words) {
      out.setWords(true);
    } else if (changePoints != null) {
      var cuts = lstmexplain.v1.ChangePoints.newBuilder();
      if (changePoints.segments() != null) {
        cuts.setSegments(changePoints.segments());
      }
      if (changePoints.penalty() != null) {
        cuts.setPenalty(changePoints.penalty());
      }
      out.setChangePoints(cuts);
    }
    for (FeatureGroup group : features) {
      out.addFeatures(
          lstmexplain.v1.FeatureGroup.newBuilder()
              .setName(group.name())
              .setInput(group.input())
              .addAllFeatures(group.features()));
    }
    return out.build();
  }
}

// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;

import com.google.protobuf.InvalidProtocolBufferException;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import lstmexplain.Method.Composite;
import lstmexplain.Method.Rule;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class MethodTest {
  private static final Map<String, Tensor> BASELINE = Map.of("x", Tensor.of(new float[] {1}));
  private static final Map<String, Rule> RULES =
      Map.of(
          "Gemm", new Rule.Gamma(0.0),
          "dense", new Rule.AlphaBeta(2.0, null),
          "convolution", new Rule.ZPlus(),
          "a", new Rule.Flat(),
          "b", new Rule.Epsilon(0.1),
          "c", new Rule.ZBox(-1.0, 0.0),
          "d", new Rule.WSquare());

  static Stream<Method> methods() {
    return Stream.of(
        new Method.Lrp(),
        new Method.Lrp()
            .productRule(Method.ProductRule.ABS)
            .epsilon(0)
            .biasFactor(1)
            .composite(new Composite(RULES, new Rule.ZBox(0.0, 1.0))),
        new Method.Lrp().composite(new Composite(Map.of(), null)),
        new Method.Gradient(),
        new Method.GradientTimesInput(),
        new Method.IntegratedGradients(),
        new Method.IntegratedGradients().steps(0).baseline(BASELINE),
        new Method.GradientShap(),
        new Method.GradientShap().samples(0).seed(0).baseline(BASELINE),
        new Method.GradientShap()
            .background(new Method.Background().samples(BASELINE).draws(2).seed(0)),
        new Method.SmoothGrad(),
        new Method.SmoothGrad().samples(3).noise(0).seed(0),
        new Method.Occlusion(),
        new Method.Occlusion().window(2).baseline(BASELINE).of(Method.Quantity.PROBABILITY),
        new Method.ShapleySampling(),
        new Method.ShapleySampling()
            .permutations(2)
            .seed(9)
            .baseline(BASELINE)
            .over(Method.Players.CELLS),
        new Method.Counterfactual(),
        new Method.Counterfactual()
            .most(0)
            .maxRuns(9)
            .threshold(0)
            .baseline(BASELINE)
            .over(Method.Players.CELLS),
        new Method.ContextualDecomposition(),
        new Method.ContextualDecomposition().span(new Method.Span(0, 5)));
  }

  /** Parameters that are set to zero, too, and those that are not set. */
  @ParameterizedTest
  @MethodSource("methods")
  void comesBackFromTheWireAsItWas(Method method) throws InvalidProtocolBufferException {
    byte[] encoded = MethodWire.encode(method).toByteArray();
    assertEquals(method, MethodWire.decode(lstmexplain.v1.Method.parseFrom(encoded)));
  }

  @Test
  void nothingIsLeftOut() {
    Set<Class<?>> tried = methods().map(Object::getClass).collect(Collectors.toSet());
    assertEquals(Set.of(Method.class.getPermittedSubclasses()), tried);
    tried = RULES.values().stream().map(Object::getClass).collect(Collectors.toSet());
    assertEquals(Set.of(Rule.class.getPermittedSubclasses()), tried);
    assertEquals(
        lstmexplain.v1.Method.getDescriptor().getOneofs().get(0).getFieldCount(),
        Method.class.getPermittedSubclasses().length);
    assertEquals(
        lstmexplain.v1.Rule.getDescriptor().getOneofs().get(0).getFieldCount(),
        Rule.class.getPermittedSubclasses().length);
  }

  /** The constants of each enum are those of the wire, less the one for "not set". */
  @Test
  void everyChoiceHasItsConstant() {
    same(DataType.class, lstmexplain.v1.DataType.values());
    same(Method.ProductRule.class, lstmexplain.v1.ProductRule.values());
    same(Method.Quantity.class, lstmexplain.v1.Quantity.values());
    same(Method.Players.class, lstmexplain.v1.Players.values());
    same(ModelSummary.ModelState.class, lstmexplain.v1.ModelState.values());
  }

  private static <E extends Enum<E>> void same(Class<E> ours, Enum<?>[] wire) {
    List<E> known =
        Arrays.stream(wire)
            .filter(c -> !c.name().equals("UNRECOGNIZED") && !c.name().endsWith("_UNSPECIFIED"))
            .map(c -> Wire.constant(ours, c))
            .toList();
    assertEquals(List.of(ours.getEnumConstants()), known);
  }

  @Test
  void whatIsNotKnownIsNull() {
    assertNull(MethodWire.decode(lstmexplain.v1.Method.getDefaultInstance()));
    assertNull(Wire.constant(Method.Players.class, lstmexplain.v1.Players.UNRECOGNIZED));
  }

  static Stream<Target> targets() {
    return Stream.of(
        new Target(),
        Target.at(1, 0).contrast(2, 0).output("logits").batchAxis(0).preActivation(false),
        Target.at(0).noBatchAxis(true),
        Target.weighted(Tensor.of(new double[] {0.5, -1})).preActivation(true));
  }

  @ParameterizedTest
  @MethodSource("targets")
  void targetsComeBackAsTheyWere(Target target) {
    var message = Wire.encode(Request.of("m").target(target));
    assertEquals(target, Target.decode(message.getTarget()));
  }

  @Test
  void aRequestSaysOnlyWhatItWasTold() {
    Request request = Request.of("m").input("b", "text").input("a", Tensor.of(new int[] {1}));
    var message = Wire.encode(request);
    assertEquals(
        List.of("b", "a"), message.getInputsList().stream().map(t -> t.getName()).toList());
    assertEquals(false, message.hasMethod() || message.hasTarget());
    assertEquals(
        List.of("p", "q"), Wire.encode(request.capture("p").capture("q")).getCaptureList());
    assertEquals("2", Wire.encode(request.version("2")).getVersion());
  }
}

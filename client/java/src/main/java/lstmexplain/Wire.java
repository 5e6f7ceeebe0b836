// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import com.google.protobuf.UnsafeByteOperations;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.function.Function;
import lstmexplain.v1.ExplainRequest;

/** Requests, results and what they hold, to and from the messages of {@code proto/}. */
final class Wire {
  private Wire() {}

  static ExplainRequest encode(Request request) {
    ExplainRequest.Builder out =
        ExplainRequest.newBuilder()
            .setModel(request.model())
            .setVersion(request.version())
            .addAllInputs(encode(request.inputs()))
            .addAllCapture(request.capture())
            .setReceipt(request.receipt())
            .setCondition(request.condition())
            .addAllTargets(TargetSet.encode(request.targets()));
    if (request.method() != null) {
      out.setMethod(MethodWire.encode(request.method()));
    }
    if (request.target() != null) {
      out.setTarget(request.target().encode());
    }
    request
        .through()
        .forEach(
            (value, units) ->
                out.addThrough(
                    lstmexplain.v1.Through.newBuilder()
                        .setValue(value)
                        .addAllUnits(java.util.Arrays.stream(units).boxed().toList())));
    if (request.groups() != null) {
      out.setGroups(request.groups().encode());
    }
    return out.build();
  }

  static List<lstmexplain.v1.Tensor> encode(Map<String, Tensor> tensors) {
    List<lstmexplain.v1.Tensor> out = new ArrayList<>();
    tensors.forEach((name, tensor) -> out.add(encode(name, tensor)));
    return out;
  }

  static lstmexplain.v1.Tensor encode(String name, Tensor tensor) {
    lstmexplain.v1.Tensor.Builder out =
        lstmexplain.v1.Tensor.newBuilder()
            .setName(name)
            .setDtype(lstmexplain.v1.DataType.valueOf(name(tensor.type())))
            .setData(UnsafeByteOperations.unsafeWrap(tensor.type().pack(tensor.data())));
    for (int extent : tensor.shape()) {
      out.addShape(extent);
    }
    return out.build();
  }

  static Map<String, Tensor> decode(Collection<lstmexplain.v1.Tensor> messages) {
    return byName(messages, lstmexplain.v1.Tensor::getName, Wire::decode);
  }

  static Tensor decode(lstmexplain.v1.Tensor message) {
    try {
      DataType type = constant(DataType.class, message.getDtype());
      if (type == null) {
        throw new IllegalArgumentException("the unknown type " + message.getDtypeValue());
      }
      int[] shape = message.getShapeList().stream().mapToInt(Math::toIntExact).toArray();
      int count = Tensor.count(shape);
      var bytes = message.getData().asReadOnlyByteBuffer().order(ByteOrder.LITTLE_ENDIAN);
      return new Tensor(type, type.unpack(bytes, count), shape);
    } catch (IllegalArgumentException | ArithmeticException wrong) {
      String said = "tensor \"" + message.getName() + "\": " + wrong.getMessage();
      throw ExplainException.malformed(said, wrong);
    }
  }

  /** A copy in the same order; of {@code Map.copyOf} the order is not given. */
  static <V> Map<String, V> copy(Map<String, V> map) {
    map.forEach((name, value) -> Objects.requireNonNull(value, () -> "null for " + name));
    return Collections.unmodifiableMap(new LinkedHashMap<>(map));
  }

  /** Every entry converted; without those that become null. */
  static <M, V> Map<String, V> mapped(Map<String, M> messages, Function<M, V> read) {
    Map<String, V> out = new LinkedHashMap<>();
    messages.forEach(
        (key, message) -> {
          V value = read.apply(message);
          if (value != null) {
            out.put(key, value);
          }
        });
    return out;
  }

  /** What the messages hold, by name, in their order. */
  static <M, V> Map<String, V> byName(
      Collection<M> messages, Function<M, String> name, Function<M, V> value) {
    Map<String, V> out = new LinkedHashMap<>();
    messages.forEach(message -> out.put(name.apply(message), value.apply(message)));
    return Collections.unmodifiableMap(out);
  }

  /**
   * The constant of our enum for that of the wire, whose name has the enum's own in front; null for
   * one that is unset or not known.
   */
  static <E extends Enum<E>> E constant(Class<E> ours, Enum<?> wire) {
    for (E constant : ours.getEnumConstants()) {
      if (wire.name().equals(prefix(ours) + constant.name())) {
        return constant;
      }
    }
    return null;
  }

  /** The name on the wire of a constant of ours. */
  static String name(Enum<?> ours) {
    return prefix(ours.getDeclaringClass()) + ours.name();
  }

  private static String prefix(Class<?> ours) {
    return ours.getSimpleName().replaceAll("(?<=.)(?=[A-Z])", "_").toUpperCase(Locale.ROOT) + "_";
  }
}

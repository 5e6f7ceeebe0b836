// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class TensorTest {
  static Stream<Tensor> tensors() {
    return Stream.of(
        Tensor.of(new float[] {1.5f, -0f, Float.POSITIVE_INFINITY, Float.NaN}, 4),
        Tensor.of(new double[] {Math.PI, 1e-300}, 2, 1),
        Tensor.float16(new short[] {0x3c00, -1}, 2),
        Tensor.of(new int[] {Integer.MIN_VALUE, 7}, 1, 2),
        Tensor.of(new long[] {Long.MIN_VALUE, Long.MAX_VALUE}, 2),
        Tensor.of(new boolean[] {true, false, true}, 3),
        Tensor.text("", "façade", "很好"),
        Tensor.of(new float[0], 2, 0, 4),
        Tensor.of(3.0));
  }

  @ParameterizedTest
  @MethodSource("tensors")
  void comesBackFromTheWireAsItWas(Tensor tensor) {
    assertEquals(tensor, Wire.decode(Wire.encode("x", tensor)));
  }

  @Test
  void bytesAreLittleEndian() {
    var message = Wire.encode("x", Tensor.of(new int[][] {{1, -2}}));
    assertArrayEquals(new byte[] {1, 0, 0, 0, -2, -1, -1, -1}, message.getData().toByteArray());
    assertEquals(java.util.List.of(1L, 2L), message.getShapeList());
    var text = Wire.encode("x", Tensor.text("é"));
    assertArrayEquals(
        new byte[] {2, 0, 0, 0, (byte) 0xc3, (byte) 0xa9}, text.getData().toByteArray());
  }

  @Test
  void nestsAsDeepAsThereAreAxes() {
    float[][][] nested = {{{1, 2, 3}, {4, 5, 6}}, {{7, 8, 9}, {10, 11, 12}}};
    Tensor tensor = Tensor.of(nested);
    assertArrayEquals(new int[] {2, 2, 3}, tensor.shape());
    assertArrayEquals(
        new float[] {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, tensor.to(float[].class));
    assertArrayEquals(nested, tensor.to(float[][][].class));
    assertEquals(tensor, Tensor.of(tensor.to(float[].class), 2, 2, 3));
    assertEquals("float32[2, 2, 3]", tensor.toString());
    assertEquals(2.5, Tensor.of(2.5).to(double[].class)[0]);
    assertArrayEquals(
        new String[][] {{"a"}, {"b"}},
        Tensor.of(new String[] {"a", "b"}, 2, 1).to(String[][].class));
    assertArrayEquals(new long[2][0], Tensor.of(new long[2][0]).to(long[][].class));
  }

  @Test
  void doesNotChangeWithTheArrays() {
    float[] given = {1, 2};
    Tensor tensor = Tensor.of(given, 2);
    given[0] = 5;
    tensor.to(float[].class)[1] = 5;
    tensor.shape()[0] = 5;
    assertEquals(Tensor.of(new float[] {1, 2}), tensor);
  }

  @Test
  void isEqualByTypeShapeAndElements() {
    Tensor tensor = Tensor.of(new float[] {1, 2}, 2);
    assertEquals(Tensor.of(new float[] {1, 2}, 2).hashCode(), tensor.hashCode());
    assertNotEquals(Tensor.of(new double[] {1, 2}, 2), tensor);
    assertNotEquals(Tensor.of(new float[] {1, 2}, 1, 2), tensor);
    assertNotEquals(Tensor.of(new float[] {1, 3}, 2), tensor);
  }

  @Test
  void readsNumbersAsDoubles() {
    assertArrayEquals(new double[] {1, -2}, Tensor.of(new long[] {1, -2}).doubles());
    assertThrows(IllegalArgumentException.class, Tensor.text("1")::doubles);
    assertThrows(IllegalArgumentException.class, Tensor.float16(new short[1], 1)::doubles);
  }

  @Test
  void refusesWhatIsNoTensor() {
    refused("4 elements", () -> Tensor.of(new float[4], 2, 3));
    refused("-1", () -> Tensor.of(new float[1], -1, -1));
    refused("short", () -> Tensor.of(new short[2]));
    refused("Object", () -> Tensor.of(new Object[] {1.0, 2.0}));
    refused("2 elements", () -> Tensor.of(new double[][] {{1}, {1, 2}}));
    refused("null", () -> Tensor.of(new double[][] {{1}, null}));
    refused("null", () -> Tensor.text("a", null));
    refused("float32[2, 2] as double[]", () -> Tensor.of(new float[2][2]).to(double[].class));
    refused("float32[2, 2] as float[][][]", () -> Tensor.of(new float[2][2]).to(float[][][].class));
  }

  private static void refused(String why, Runnable made) {
    String said = assertThrows(IllegalArgumentException.class, made::run).getMessage();
    assertTrue(said.contains(why), said);
  }

  static Stream<lstmexplain.v1.Tensor> damaged() {
    var floats = lstmexplain.v1.DataType.DATA_TYPE_FLOAT32;
    var text = lstmexplain.v1.DataType.DATA_TYPE_STRING;
    return Stream.of(
        message(floats.getNumber(), 2, new byte[7]),
        message(floats.getNumber(), -2, new byte[0]),
        message(floats.getNumber(), 1L << 40, new byte[0]),
        message(99, 1, new byte[1]),
        message(0, 1, new byte[1]),
        message(text.getNumber(), 1, new byte[] {9, 0, 0, 0, 'a'}),
        message(text.getNumber(), 1, new byte[] {-1, -1, -1, -1, 'a'}),
        message(text.getNumber(), 1, new byte[] {0, 0, 0, 0, 'a'}),
        message(text.getNumber(), 1 << 30, new byte[0]));
  }

  private static lstmexplain.v1.Tensor message(int type, long extent, byte[] data) {
    return lstmexplain.v1.Tensor.newBuilder()
        .setName("logits")
        .setDtypeValue(type)
        .addShape(extent)
        .setData(ByteString.copyFrom(data))
        .build();
  }

  @ParameterizedTest
  @MethodSource("damaged")
  void tellsOfDamagedAnswers(lstmexplain.v1.Tensor message) {
    var reported = assertThrows(ExplainException.MalformedResponse.class, () -> Wire.decode(message));
    assertTrue(reported.getMessage().contains("logits"), reported.getMessage());
  }
}

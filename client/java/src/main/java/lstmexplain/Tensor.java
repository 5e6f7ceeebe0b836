// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import java.lang.invoke.MethodType;
import java.lang.reflect.Array;
import java.util.Arrays;
import java.util.Locale;
import java.util.Objects;

/**
 * A dense array: its elements in row-major order, and the size of each axis. It does not change.
 *
 * <pre>{@code
 * Tensor.of(new float[][] {{0.5f, 1}, {2, 3}});   // float32, shape [2, 2]
 * Tensor.of(new float[150], 1, 30, 5);            // the same elements, shaped
 * tensor.to(float[][].class);                     // and back
 * }</pre>
 */
public final class Tensor {
  private final DataType type;
  private final int[] shape;
  private final Object data;

  /** Takes both arrays as they are; an internal caller hands them over. */
  Tensor(DataType type, Object data, int... shape) {
    this.type = type;
    this.data = data;
    this.shape = shape;
    if (Array.getLength(data) != count(shape)) {
      throw new IllegalArgumentException(
          Array.getLength(data)
              + " elements for the shape "
              + Arrays.toString(shape)
              + ", which has "
              + count(shape));
    }
  }

  /**
   * Makes a tensor of an array, nested as deep as there are axes, or of one number, boolean or
   * String.
   *
   * @param array float, double, int, long, boolean or String, or an array (of arrays) of these
   * @throws IllegalArgumentException if the elements are of another type, or rows differ in length
   */
  public static Tensor of(Object array) {
    Objects.requireNonNull(array, "array");
    int rank = 0;
    Class<?> leaf = array.getClass();
    for (; leaf.isArray(); leaf = leaf.getComponentType()) {
      rank++;
    }
    if (rank == 0) {
      DataType type = DataType.of(MethodType.methodType(leaf).unwrap().returnType());
      Object one = Array.newInstance(type.element, 1);
      Array.set(one, 0, array);
      return new Tensor(type, one);
    }
    DataType type = DataType.of(leaf);
    int[] shape = new int[rank];
    Object row = array;
    for (int axis = 0; axis < rank && row != null; axis++) {
      shape[axis] = Array.getLength(row);
      row = shape[axis] > 0 && axis + 1 < rank ? Array.get(row, 0) : null;
    }
    Object flat = Array.newInstance(leaf, count(shape));
    flatten(array, shape, 0, flat, 0);
    return new Tensor(type, checked(flat), shape);
  }

  /**
   * Makes a tensor of elements in row-major order.
   *
   * @param data copied
   * @param shape the size of each axis; without one, a scalar
   * @throws IllegalArgumentException if the shape has another number of elements
   */
  public static Tensor of(float[] data, int... shape) {
    return new Tensor(DataType.FLOAT32, data.clone(), shape.clone());
  }

  /**
   * Makes a tensor of elements in row-major order.
   *
   * @see #of(float[], int...)
   */
  public static Tensor of(double[] data, int... shape) {
    return new Tensor(DataType.FLOAT64, data.clone(), shape.clone());
  }

  /**
   * Makes a tensor of elements in row-major order.
   *
   * @see #of(float[], int...)
   */
  public static Tensor of(int[] data, int... shape) {
    return new Tensor(DataType.INT32, data.clone(), shape.clone());
  }

  /**
   * Makes a tensor of elements in row-major order.
   *
   * @see #of(float[], int...)
   */
  public static Tensor of(long[] data, int... shape) {
    return new Tensor(DataType.INT64, data.clone(), shape.clone());
  }

  /**
   * Makes a tensor of elements in row-major order.
   *
   * @see #of(float[], int...)
   */
  public static Tensor of(boolean[] data, int... shape) {
    return new Tensor(DataType.BOOL, data.clone(), shape.clone());
  }

  /**
   * Makes a tensor of elements in row-major order.
   *
   * @see #of(float[], int...)
   */
  public static Tensor of(String[] data, int... shape) {
    return new Tensor(DataType.STRING, checked(data.clone()), shape.clone());
  }

  /**
   * Makes a tensor of IEEE 754 binary16 numbers, given by their bits.
   *
   * @see #of(float[], int...)
   */
  public static Tensor float16(short[] bits, int... shape) {
    return new Tensor(DataType.FLOAT16, bits.clone(), shape.clone());
  }

  /** Makes a tensor of texts, one per sample, for a model with a tokenizer. */
  public static Tensor text(String... texts) {
    return of(texts, texts.length);
  }

  /** What the elements are. */
  public DataType type() {
    return type;
  }

  /** The size of each axis; empty for a scalar. */
  public int[] shape() {
    return shape.clone();
  }

  /** How many elements there are. */
  public int size() {
    return Array.getLength(data);
  }

  /**
   * The elements as an array, nested once for each axis, or flat: {@code to(float[][].class)}, and
   * {@code to(float[].class)} for a tensor of any shape, row-major.
   *
   * @throws IllegalArgumentException if the elements are of another type, or the axes more or fewer
   */
  public <T> T to(Class<T> array) {
    int rank = 0;
    Class<?> leaf = array;
    for (; leaf.isArray(); leaf = leaf.getComponentType()) {
      rank++;
    }
    if (leaf != type.element || rank != 1 && rank != shape.length) {
      throw new IllegalArgumentException(this + " as " + array.getSimpleName());
    }
    return array.cast(
        rank == 0 ? Array.get(data, 0) : nested(rank == 1 ? new int[] {size()} : shape, 0, 0));
  }

  /**
   * The elements as {@code double}, row-major.
   *
   * @throws IllegalArgumentException if they are not float, double, int or long
   */
  public double[] doubles() {
    double[] out = new double[size()];
    switch (type) {
      case FLOAT32, FLOAT64, INT32, INT64 -> Arrays.setAll(out, i -> Array.getDouble(data, i));
      default -> throw new IllegalArgumentException(this + " as numbers");
    }
    return out;
  }

  /** The elements themselves, for the encoder: not to be written to. */
  Object data() {
    return data;
  }

  /** True for the same type, shape and elements; NaN equals NaN, and 0.0 is not -0.0. */
  @Override
  public boolean equals(Object other) {
    return other instanceof Tensor that
        && type == that.type
        && Arrays.equals(shape, that.shape)
        && Objects.deepEquals(data, that.data);
  }

  @Override
  public int hashCode() {
    return Arrays.deepHashCode(new Object[] {type, shape, data});
  }

  /** Type and shape, for example {@code float32[2, 3]}. */
  @Override
  public String toString() {
    return type.name().toLowerCase(Locale.ROOT) + Arrays.toString(shape);
  }

  private Object nested(int[] extents, int axis, int begin) {
    if (axis == extents.length - 1) {
      Object row = Array.newInstance(type.element, extents[axis]);
      System.arraycopy(data, begin, row, 0, extents[axis]);
      return row;
    }
    int[] inner = Arrays.copyOfRange(extents, axis + 1, extents.length);
    Object out = Array.newInstance(arrayClass(inner.length), extents[axis]);
    for (int i = 0; i < extents[axis]; i++) {
      Array.set(out, i, nested(extents, axis + 1, begin + i * count(inner)));
    }
    return out;
  }

  private Class<?> arrayClass(int rank) {
    return Array.newInstance(type.element, new int[rank]).getClass();
  }

  private static int flatten(Object array, int[] shape, int axis, Object flat, int begin) {
    int length = array == null ? -1 : Array.getLength(array);
    if (length != shape[axis]) {
      throw new IllegalArgumentException(
          (length < 0 ? "a row is null" : "a row has " + length + " elements")
              + "; expected "
              + shape[axis]
              + " as in the first");
    }
    if (axis == shape.length - 1) {
      System.arraycopy(array, 0, flat, begin, length);
      return begin + length;
    }
    for (int i = 0; i < length; i++) {
      begin = flatten(Array.get(array, i), shape, axis + 1, flat, begin);
    }
    return begin;
  }

  private static Object checked(Object flat) {
    if (flat instanceof String[] texts && Arrays.asList(texts).contains(null)) {
      throw new IllegalArgumentException("a text is null");
    }
    return flat;
  }

  /** How many elements a shape has. */
  static int count(int[] shape) {
    int count = 1;
    for (int extent : shape) {
      if (extent < 0) {
        throw new IllegalArgumentException("the extent " + extent + " is negative");
      }
      count = Math.multiplyExact(count, extent);
    }
    return count;
  }
}

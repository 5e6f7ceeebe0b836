// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.lang.reflect.Array;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;

/** The element types of a {@link Tensor}, and the Java type of each. */
public enum DataType {
  /** {@code float}. */
  FLOAT32(float.class, 4) {
    @Override
    void put(ByteBuffer to, Object data) {
      to.asFloatBuffer().put((float[]) data);
    }

    @Override
    void get(ByteBuffer from, Object data) {
      from.asFloatBuffer().get((float[]) data);
    }
  },
  /** {@code double}. */
  FLOAT64(double.class, 8) {
    @Override
    void put(ByteBuffer to, Object data) {
      to.asDoubleBuffer().put((double[]) data);
    }

    @Override
    void get(ByteBuffer from, Object data) {
      from.asDoubleBuffer().get((double[]) data);
    }
  },
  /** {@code short}, with the bits of an IEEE 754 binary16 number, because Java has no such type. */
  FLOAT16(short.class, 2) {
    @Override
    void put(ByteBuffer to, Object data) {
      to.asShortBuffer().put((short[]) data);
    }

    @Override
    void get(ByteBuffer from, Object data) {
      from.asShortBuffer().get((short[]) data);
    }
  },
  /** {@code int}. */
  INT32(int.class, 4) {
    @Override
    void put(ByteBuffer to, Object data) {
      to.asIntBuffer().put((int[]) data);
    }

    @Override
    void get(ByteBuffer from, Object data) {
      from.asIntBuffer().get((int[]) data);
    }
  },
  /** {@code long}. */
  INT64(long.class, 8) {
    @Override
    void put(ByteBuffer to, Object data) {
      to.asLongBuffer().put((long[]) data);
    }

    @Override
    void get(ByteBuffer from, Object data) {
      from.asLongBuffer().get((long[]) data);
    }
  },
  /** {@code boolean}. */
  BOOL(boolean.class, 1) {
    @Override
    void put(ByteBuffer to, Object data) {
      for (boolean value : (boolean[]) data) {
        to.put((byte) (value ? 1 : 0));
      }
    }

    @Override
    void get(ByteBuffer from, Object data) {
      boolean[] values = (boolean[]) data;
      for (int i = 0; i < values.length; i++) {
        values[i] = from.get() != 0;
      }
    }
  },
  /** {@link String}; each travels as its length in four bytes and that many bytes of UTF-8. */
  STRING(String.class, 0) {
    @Override
    byte[] pack(Object data) {
      byte[][] texts =
          Arrays.stream((String[]) data).map(text -> text.getBytes(UTF_8)).toArray(byte[][]::new);
      int size = Arrays.stream(texts).mapToInt(text -> Integer.BYTES + text.length).sum();
      ByteBuffer to = ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN);
      for (byte[] text : texts) {
        to.putInt(text.length).put(text);
      }
      return to.array();
    }

    @Override
    Object unpack(ByteBuffer from, int count) {
      if (from.remaining() < (long) count * Integer.BYTES) { // before there is room for that many
        throw new IllegalArgumentException(from.remaining() + " bytes for " + count + " texts");
      }
      String[] texts = new String[count];
      for (int i = 0; i < count; i++) {
        int length = from.remaining() < Integer.BYTES ? -1 : from.getInt();
        if (length < 0 || length > from.remaining()) {
          throw new IllegalArgumentException("text " + i + " of " + count + " is cut off");
        }
        byte[] text = new byte[length];
        from.get(text);
        texts[i] = new String(text, UTF_8);
      }
      if (from.hasRemaining()) {
        throw new IllegalArgumentException(from.remaining() + " bytes are left over");
      }
      return texts;
    }
  };

  final Class<?> element;
  private final int width;

  DataType(Class<?> element, int width) {
    this.element = element;
    this.width = width;
  }

  /** Returns the type whose elements are of this class; never FLOAT16, which has no class of its own. */
  static DataType of(Class<?> element) {
    return Arrays.stream(values())
        .filter(type -> type.element == element && type != FLOAT16)
        .findFirst()
        .orElseThrow(
            () ->
                new IllegalArgumentException(
                    "elements of type "
                        + element.getSimpleName()
                        + "; expected float, double, int, long, boolean or String"));
  }

  void put(ByteBuffer to, Object data) {
    throw new UnsupportedOperationException();
  }

  void get(ByteBuffer from, Object data) {
    throw new UnsupportedOperationException();
  }

  /** The elements of a flat array, little-endian, without padding. */
  byte[] pack(Object data) {
    int count = Array.getLength(data);
    ByteBuffer to = ByteBuffer.allocate(Math.multiplyExact(count, width));
    put(to.order(ByteOrder.LITTLE_ENDIAN), data);
    return to.array();
  }

  /**
   * A flat array of {@code count} elements; IllegalArgumentException if the bytes are not those.
   */
  Object unpack(ByteBuffer from, int count) {
    if (from.remaining() != (long) count * width) {
      throw new IllegalArgumentException(
          from.remaining() + " bytes instead of " + (long) count * width);
    }
    Object data = Array.newInstance(element, count);
    get(from, data);
    return data;
  }
}

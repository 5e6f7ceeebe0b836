// SPDX-License-Identifier: Apache-2.0

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OnnxValue;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtSession;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;

/** Runs a model by ONNX Runtime: RunModel MODEL INPUT int64|float32 DIMS FILE. Prints each output: name, dims, numbers. */
final class RunModel {
  public static void main(String[] given) throws Exception {
    long[] dims = Arrays.stream(given[3].split(",")).mapToLong(Long::parseLong).toArray();
    ByteBuffer data = ByteBuffer.wrap(Files.readAllBytes(Path.of(given[4]))).order(ByteOrder.LITTLE_ENDIAN);
    PrintStream out = new PrintStream(System.out, false, "UTF-8");
    try (OrtEnvironment environment = OrtEnvironment.getEnvironment();
        OrtSession session = environment.createSession(given[0]);
        OnnxTensor input =
            given[2].equals("int64")
                ? OnnxTensor.createTensor(environment, data.asLongBuffer(), dims)
                : OnnxTensor.createTensor(environment, data.asFloatBuffer(), dims);
        OrtSession.Result result = session.run(Map.of(given[1], input))) {
      for (Map.Entry<String, OnnxValue> output : result) {
        OnnxTensor tensor = (OnnxTensor) output.getValue();
        String shape = Arrays.toString(tensor.getInfo().getShape());
        FloatBuffer numbers = tensor.getFloatBuffer();
        float[] values = new float[numbers.remaining()];
        numbers.get(values);
        out.println(output.getKey() + "\t" + shape + "\t" + Arrays.toString(values));
      }
    }
    out.flush();
  }
}

// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import com.google.protobuf.ByteString;
import com.google.protobuf.UnsafeByteOperations;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import lstmexplain.ModelDetail.NodeReport;
import lstmexplain.ModelDetail.TensorSpec;
import lstmexplain.ModelSummary.ModelState;
import lstmexplain.v1.ImportModelFile;
import lstmexplain.v1.ImportModelRequest;
import lstmexplain.v1.ImportModelResponse;
import lstmexplain.v1.ImportModelStart;
import lstmexplain.v1.Names;
import lstmexplain.v1.RouteModelRequest;

/** Decodes models from their messages, and encodes imports and routes. */
final class ModelWire {
  private static final int CHUNK_BYTES = 1 << 20;

  private ModelWire() {}

  /** Sends all of an import; ends early, without an exception, if the server listens no more. */
  static void send(ModelImport model, Exchange<ImportModelRequest, ImportModelResponse> exchange)
      throws IOException, InterruptedException {
    Digest digest = Digest.of(model.model());
    ImportModelStart start =
        ImportModelStart.newBuilder()
            .setName(model.name())
            .setVersion(model.version())
            .setConfigYaml(model.config())
            .setSha256(digest.sha256)
            .setSize(digest.size)
            .build();
    boolean open =
        send(ImportModelRequest.newBuilder().setStart(start).build(), model.model(), exchange);
    for (int i = 0; open && i < model.files().size(); i++) {
      Path path = model.files().get(i);
      digest = Digest.of(path);
      ImportModelFile file =
          ImportModelFile.newBuilder()
              .setName(path.getFileName().toString())
              .setSha256(digest.sha256)
              .setSize(digest.size)
              .build();
      open = send(ImportModelRequest.newBuilder().setFile(file).build(), path, exchange);
    }
    exchange.finish();
  }

  static RouteModelRequest encode(String name, ModelRoute route) {
    return RouteModelRequest.newBuilder()
        .setName(name)
        .setDefaultVersion(route.defaultVersion())
        .setCanaryVersion(route.canaryVersion())
        .setCanaryShare(route.canaryShare())
        .build();
  }

  static ModelRoute decode(lstmexplain.v1.ModelRoute route) {
    return new ModelRoute(
        route.getDefaultVersion(),
        route.getCanaryVersion(),
        route.getCanaryShare(),
        route.getPreviousVersion());
  }

  private static boolean send(
      ImportModelRequest head,
      Path path,
      Exchange<ImportModelRequest, ImportModelResponse> exchange)
      throws IOException, InterruptedException {
    try (InputStream content = Files.newInputStream(path)) {
      boolean open = exchange.send(head);
      while (open) {
        byte[] chunk = content.readNBytes(CHUNK_BYTES);
        if (chunk.length == 0) {
          break;
        }
        open =
            exchange.send(
                ImportModelRequest.newBuilder()
                    .setChunk(UnsafeByteOperations.unsafeWrap(chunk))
                    .build());
      }
      return open;
    }
  }

  private record Digest(ByteString sha256, long size) {
    static Digest of(Path path) throws IOException {
      try (InputStream content = Files.newInputStream(path)) {
        MessageDigest sum = MessageDigest.getInstance("SHA-256");
        byte[] buffer = new byte[CHUNK_BYTES];
        long size = 0;
        for (int count; (count = content.read(buffer)) >= 0; size += count) {
          sum.update(buffer, 0, count);
        }
        return new Digest(ByteString.copyFrom(sum.digest()), size);
      } catch (NoSuchAlgorithmException impossible) { // every Java has SHA-256
        throw new AssertionError(impossible);
      }
    }
  }

  static ModelSummary decode(lstmexplain.v1.ModelSummary message) {
    return new ModelSummary(
        message.getName(),
        message.getVersion(),
        Wire.constant(ModelState.class, message.getState()),
        message.getReason(),
        message.getDescription(),
        message.getDigest(),
        message.getIsDefault(),
        message.getCanaryShare());
  }

  static ModelDetail decode(lstmexplain.v1.ModelDetail message) {
    return new ModelDetail(
        decode(message.getSummary()),
        specs(message.getInputsList()),
        specs(message.getOutputsList()),
        message.getLrpSupported(),
        message.getNodesList().stream().map(ModelWire::decode).toList(),
        MethodWire.decode(message.getDefaultMethod()),
        Target.decode(message.getDefaultTarget()),
        names(message.getClassNamesMap()),
        names(message.getFeatureNamesMap()),
        List.copyOf(message.getTextInputsList()),
        message.getBatchAxesMap(),
        message.getTimeAxesMap(),
        List.copyOf(message.getGuessedAxesList()),
        names(message.getUnitsMap()),
        message.getBackgroundSamplesMap(),
        names(message.getExamplesMap()),
        message.getFeatureGroupsList().stream().map(ModelWire::decode).toList());
  }

  private static Groups.FeatureGroup decode(lstmexplain.v1.FeatureGroup message) {
    return new Groups.FeatureGroup(
        message.getName(), message.getInput(), message.getFeaturesList());
  }

  private static NodeReport decode(lstmexplain.v1.NodeReport message) {
    return new NodeReport(
        message.getName(), message.getOpType(), message.getSupported(), message.getRule());
  }

  private static Map<String, TensorSpec> specs(Collection<lstmexplain.v1.TensorSpec> messages) {
    return Wire.byName(messages, lstmexplain.v1.TensorSpec::getName, ModelWire::decode);
  }

  private static TensorSpec decode(lstmexplain.v1.TensorSpec message) {
    return new TensorSpec(
        Wire.constant(DataType.class, message.getDtype()),
        message.getShapeList().stream()
            .map(axis -> axis.hasSize() ? Long.toString(axis.getSize()) : axis.getSymbol())
            .toList());
  }

  private static Map<String, List<String>> names(Map<String, Names> messages) {
    Map<String, List<String>> out = new LinkedHashMap<>();
    messages.forEach((name, names) -> out.put(name, List.copyOf(names.getValuesList())));
    return out;
  }
}

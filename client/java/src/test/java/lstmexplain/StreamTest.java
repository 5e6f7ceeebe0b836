// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.rpc.BadRequest;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Server;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Supplier;
import java.util.stream.Stream;
import lstmexplain.v1.ExplainRequest;
import lstmexplain.v1.ExplainResponse;
import lstmexplain.v1.ExplainStreamRequest;
import lstmexplain.v1.ExplainStreamResponse;
import lstmexplain.v1.ExplanationServiceGrpc;
import lstmexplain.v1.ImportModelRequest;
import lstmexplain.v1.ImportModelResponse;
import lstmexplain.v1.ModelServiceGrpc;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * Who waits for whom, against servers on a real socket that do what ours would only do by chance.
 */
@Timeout(60)
class StreamTest {
  private static final int BIG = 1 << 16;
  private static final Request REQUEST = Request.of("m").input("x", Tensor.of(new float[BIG / 4]));

  private final CountDownLatch cancelled = new CountDownLatch(1);
  private final CountDownLatch begun = new CountDownLatch(1);
  private final AtomicInteger sent = new AtomicInteger();
  private Server server;
  private Client client;

  /** What the server does with a stream. */
  private enum Manner {
    /** Asks for no request. */
    DEAF,
    /** Answers the first request again and again, while there is room. */
    TALKATIVE,
    /** Answers each request with a stream error. */
    BREAKING
  }

  private volatile Manner manner;

  @BeforeEach
  void start() throws IOException {
    server =
        Grpc.newServerBuilderForPort(0, InsecureServerCredentials.create())
            .addService(new Explanations())
            .addService(new Models())
            .build()
            .start();
    client = Client.connect("127.0.0.1:" + server.getPort());
  }

  @AfterEach
  void stop() {
    client.close();
    server.shutdownNow();
  }

  private final class Explanations extends ExplanationServiceGrpc.ExplanationServiceImplBase {
    @Override
    public void explain(ExplainRequest request, StreamObserver<ExplainResponse> answers) {
      ((ServerCallStreamObserver<?>) answers).setOnCancelHandler(cancelled::countDown);
      begun.countDown();
    }

    @Override
    public StreamObserver<ExplainStreamRequest> explainStream(
        StreamObserver<ExplainStreamResponse> answers) {
      var out = (ServerCallStreamObserver<ExplainStreamResponse>) answers;
      out.setOnCancelHandler(cancelled::countDown);
      begun.countDown();
      if (manner == Manner.DEAF) {
        out.disableAutoRequest();
      }
      if (manner == Manner.TALKATIVE) {
        out.setOnReadyHandler(() -> talk(out));
      }
      return new StreamObserver<>() {
        @Override
        public void onNext(ExplainStreamRequest request) {
          if (manner == Manner.BREAKING) {
            out.onError(Status.INTERNAL.withDescription("broken").asRuntimeException());
          }
        }

        @Override
        public void onError(Throwable over) {}

        @Override
        public void onCompleted() {}
      };
    }

    private void talk(ServerCallStreamObserver<ExplainStreamResponse> out) {
      var tensor = lstmexplain.v1.Tensor.newBuilder().setDtypeValue(1).addShape(BIG / 4);
      tensor.setData(ByteString.copyFrom(new byte[BIG]));
      var empty = lstmexplain.v1.Tensor.newBuilder().setDtypeValue(1).addShape(0).build();
      var ledger = lstmexplain.v1.Ledger.newBuilder();
      ledger.setInputs(empty).setInitialStates(empty).setAbsorbed(empty).setResidual(empty);
      var response = ExplainResponse.newBuilder().setLedger(ledger).setExplained(tensor);
      while (out.isReady()) {
        String id = Integer.toString(sent.getAndIncrement());
        out.onNext(ExplainStreamResponse.newBuilder().setId(id).setResponse(response).build());
      }
    }
  }

  /** Refuses every import at its head, as ours refuses a name: with the field in the trailers. */
  private final class Models extends ModelServiceGrpc.ModelServiceImplBase {
    @Override
    public StreamObserver<ImportModelRequest> importModel(
        StreamObserver<ImportModelResponse> answers) {
      var wrong = BadRequest.FieldViolation.newBuilder().setField("start.name");
      return new StreamObserver<>() {
        @Override
        public void onNext(ImportModelRequest part) {
          if (part.hasStart()) {
            answers.onError(
                StatusProto.toStatusRuntimeException(
                    com.google.rpc.Status.newBuilder()
                        .setCode(Status.Code.INVALID_ARGUMENT.value())
                        .addDetails(
                            Any.pack(BadRequest.newBuilder().addFieldViolations(wrong).build()))
                        .build()));
          }
        }

        @Override
        public void onError(Throwable over) {}

        @Override
        public void onCompleted() {}
      };
    }
  }

  /** As many requests as a caller wants to take; counts those that are taken. */
  private static Iterable<Request> endless(AtomicInteger taken) {
    return () -> Stream.generate(() -> REQUEST).peek(request -> taken.incrementAndGet()).iterator();
  }

  /** The count when it has stood still for a while. */
  private static int settled(AtomicInteger count) throws InterruptedException {
    int before = -1;
    while (count.get() != before || before == 0) {
      before = count.get();
      Thread.sleep(300);
    }
    return before;
  }

  @Test
  @SuppressWarnings("try") // the answers are not looked at
  void requestsAreTakenNoFasterThanTheServerReads() throws Exception {
    manner = Manner.DEAF;
    AtomicInteger taken = new AtomicInteger();
    try (Stream<Answer> answers = client.explainStream(endless(taken))) {
      awaitBegun();
      int held = settled(taken) * BIG;
      assertTrue(held < ClientBuilder.DEFAULT_MAX_MESSAGE_BYTES, held + " bytes are held");
    }
    assertTrue(cancelled.await(20, TimeUnit.SECONDS), "the server does not know of the end");
  }

  @Test
  void answersAreFetchedNoFasterThanTheyAreTaken() throws Exception {
    manner = Manner.TALKATIVE;
    try (Stream<Answer> answers = client.explainStream(List.of(REQUEST))) {
      int held = settled(sent);
      assertTrue(held * BIG < ClientBuilder.DEFAULT_MAX_MESSAGE_BYTES, held + " answers are held");
      Iterator<Answer> each = answers.iterator();
      for (int i = 0; i < 2 * held; i++) {
        Answer answer = each.next();
        assertEquals(Integer.toString(i), answer.id());
        assertEquals(BIG / 4, answer.orThrow().explained().size());
      }
    }
    assertTrue(cancelled.await(20, TimeUnit.SECONDS), "the server does not know of the end");
  }

  @Test
  void aStreamThatBreaksThrows() {
    manner = Manner.BREAKING;
    try (Stream<Answer> answers = client.explainStream(List.of(REQUEST))) {
      var reported = assertThrows(ExplainException.ServerFault.class, answers::toList);
      assertEquals("broken", reported.getMessage());
    }
  }

  @Test
  void whatTheCallersRequestsThrowReachesTheCaller() throws Exception {
    manner = Manner.DEAF;
    var thrown = new IllegalStateException("no more");
    Supplier<Request> second =
        () -> {
          awaitBegun(); // the server cannot hear of the end of what it never heard of
          throw thrown;
        };
    Iterable<Request> requests =
        () -> Stream.<Supplier<Request>>of(() -> REQUEST, second).map(Supplier::get).iterator();
    try (Stream<Answer> answers = client.explainStream(requests)) {
      assertSame(thrown, assertThrows(IllegalStateException.class, answers::toList));
    }
    assertTrue(cancelled.await(20, TimeUnit.SECONDS), "the server does not know of the end");
  }

  private void awaitBegun() {
    try {
      assertTrue(begun.await(20, TimeUnit.SECONDS), "the server does not know of the call");
    } catch (InterruptedException unexpected) {
      throw new AssertionError(unexpected);
    }
  }

  @Test
  void anInterruptEndsAStream() throws Exception {
    manner = Manner.DEAF;
    try (Stream<Answer> answers = client.explainStream(List.of(REQUEST))) {
      awaitBegun();
      Thread.currentThread().interrupt();
      assertThrows(ExplainException.Cancelled.class, answers::toList);
      assertTrue(Thread.interrupted(), "the thread forgot that it was interrupted");
    }
    assertTrue(cancelled.await(20, TimeUnit.SECONDS), "the server does not know of the end");
  }

  @Test
  void aStreamHasItsDeadline() {
    manner = Manner.DEAF;
    try (var answers = client.explainStream(List.of(REQUEST), Duration.ofMillis(200))) {
      assertThrows(ExplainException.DeadlineExceeded.class, answers::toList);
    }
  }

  @Test
  void cancellingAFutureReachesTheServer() throws Exception {
    CompletableFuture<Result> future = client.explainAsync(REQUEST);
    awaitBegun();
    assertFalse(future.isDone());
    future.cancel(true);
    assertThrows(CancellationException.class, future::join);
    assertTrue(cancelled.await(20, TimeUnit.SECONDS), "the server does not know of the end");
  }

  @Test
  void anImportThatIsRefusedEarlySaysWhichField(@TempDir Path folder) throws Exception {
    Path model = Files.write(folder.resolve("model.onnx"), new byte[8 << 20]);
    var reported =
        assertThrows(
            ExplainException.InvalidRequest.class,
            () -> client.importModel(ModelImport.of("../up", model)));
    assertEquals("start.name", reported.field());
  }

  @Test
  void anImportOfNoFileIsNotBegun() {
    var missing = ModelImport.of("mine", Path.of("no/such.onnx"));
    assertThrows(java.nio.file.NoSuchFileException.class, () -> client.importModel(missing));
  }
}

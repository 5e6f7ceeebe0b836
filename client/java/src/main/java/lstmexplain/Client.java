// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import io.grpc.CallOptions;
import io.grpc.ManagedChannel;
import io.grpc.MethodDescriptor;
import io.grpc.Status.Code;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import java.io.IOException;
import java.time.Duration;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import lstmexplain.v1.CancelOperationRequest;
import lstmexplain.v1.DeleteModelRequest;
import lstmexplain.v1.DeleteOperationRequest;
import lstmexplain.v1.ExplanationServiceGrpc;
import lstmexplain.v1.GetModelRequest;
import lstmexplain.v1.GetOperationRequest;
import lstmexplain.v1.ImportModelRequest;
import lstmexplain.v1.ImportModelResponse;
import lstmexplain.v1.ListModelsRequest;
import lstmexplain.v1.ListOperationsRequest;
import lstmexplain.v1.ModelServiceGrpc;
import lstmexplain.v1.OperationServiceGrpc;
import lstmexplain.v1.RollBackModelRequest;
import lstmexplain.v1.StartExplainRequest;
import lstmexplain.v1.WaitOperationRequest;

/**
 * Calls an explanation server. Several threads can use one client at the same time.
 *
 * <p>Every failure of a call is an {@link ExplainException}. A blocking call whose thread is
 * interrupted is cancelled, on the server too, and so is one whose {@link io.grpc.Context} is.
 */
public final class Client implements AutoCloseable {
  /** Of one call; a proxy may end a longer one. */
  private static final Duration LONGEST_WAIT = Duration.ofSeconds(20);

  private final ManagedChannel channel;
  private final CallOptions options;
  private final Duration timeout;

  Client(ManagedChannel channel, CallOptions options, Duration timeout) {
    this.channel = channel;
    this.options = options;
    this.timeout = timeout;
  }

  /**
   * Creates a client of the server at host:port, unencrypted. The client sends nothing before the
   * first call.
   */
  public static Client connect(String address) {
    return builder(address).build();
  }

  /** Builds a client with TLS, a token, or other limits. */
  public static ClientBuilder builder(String address) {
    return new ClientBuilder(address);
  }

  /** Predicts one batch and explains the prediction. */
  public Result explain(Request request) {
    return explain(request, timeout);
  }

  /**
   * Predicts one batch and explains the prediction. The server also stops when the time limit
   * passes.
   */
  public Result explain(Request request, Duration timeout) {
    oneTarget(request);
    return Result.decode(
        call(ExplanationServiceGrpc.getExplainMethod(), Wire.encode(request), timeout));
  }

  /**
   * Predicts one batch and explains it for several targets in one request: a result per target, in
   * their order. The results share the outputs.
   *
   * <pre>{@code
   * client.explainMany(request.targets(Target.at(0), Every.classes(), Every.steps(0, 6, 23)))
   * }</pre>
   */
  public List<Result> explainMany(Request request) {
    return explainMany(request, timeout);
  }

  /** Does the same within a time limit. */
  public List<Result> explainMany(Request request, Duration timeout) {
    if (request.targets().isEmpty()) {
      return List.of();
    }
    return TargetAnswers.decode(
        call(ExplanationServiceGrpc.getExplainMethod(), Wire.encode(request), timeout));
  }

  /** Does what {@link #explain(Request)} does, without waiting. */
  public CompletableFuture<Result> explainAsync(Request request) {
    return explainAsync(request, timeout);
  }

  /**
   * Does the same without waiting. Cancelling the returned future cancels the call. If the call
   * fails, the future throws an exception whose cause is an {@link ExplainException}.
   */
  public CompletableFuture<Result> explainAsync(Request request, Duration timeout) {
    oneTarget(request);
    return FutureResult.of(
        channel.newCall(ExplanationServiceGrpc.getExplainMethod(), within(timeout)),
        Wire.encode(request));
  }

  /**
   * Sends many requests over one stream. Answers arrive as soon as they are ready, in any order. A
   * request that fails gets its own error, and the stream continues. If the stream itself breaks,
   * reading the next answer throws an {@link ExplainException}.
   *
   * <p>Another thread takes the requests, no faster than the server reads them, and the client
   * fetches answers no faster than the caller reads them. Close the stream to cancel all unanswered
   * requests.
   *
   * <pre>{@code
   * try (Stream<Answer> answers = client.explainStream(requests)) {
   *   answers.forEach(answer -> ...);
   * }
   * }</pre>
   */
  public Stream<Answer> explainStream(Iterable<Request> requests) {
    return explainStream(requests, null);
  }

  /** Does the same with a time limit for the whole stream; null means no limit. */
  public Stream<Answer> explainStream(Iterable<Request> requests, Duration timeout) {
    return explainStream(requests, timeout, null);
  }

  /**
   * Does the same and reports the progress of long requests.
   *
   * @param progress called in the thread that takes the answers; null: nobody
   */
  public Stream<Answer> explainStream(
      Iterable<Request> requests, Duration timeout, ProgressListener progress) {
    return AnswerStream.open(
        requests,
        progress,
        new Exchange<>(channel, ExplanationServiceGrpc.getExplainStreamMethod(), within(timeout)));
  }

  /** Lists all models and versions, including those that failed to load. */
  public List<ModelSummary> models() {
    var request = ListModelsRequest.getDefaultInstance();
    return call(ModelServiceGrpc.getListModelsMethod(), request, timeout).getModelsList().stream()
        .map(ModelWire::decode)
        .toList();
  }

  /** Describes the newest version of a model that is ready. */
  public ModelDetail model(String name) {
    return model(name, "");
  }

  /** Describes this version of a model; if empty, the newest version that is ready. */
  public ModelDetail model(String name, String version) {
    var request = GetModelRequest.newBuilder().setName(name).setVersion(version).build();
    return ModelWire.decode(
        call(ModelServiceGrpc.getGetModelMethod(), request, timeout).getModel());
  }

  /**
   * Adds a version of a model, without a limit of time. The server must allow imports.
   *
   * @throws IOException if a file cannot be read; the server then keeps nothing
   */
  public ModelDetail importModel(ModelImport model) throws IOException {
    return importModel(model, null);
  }

  /**
   * Adds a version of a model. The server must allow imports.
   *
   * @param timeout null: there is none
   * @throws IOException if a file cannot be read; the server then keeps nothing
   */
  public ModelDetail importModel(ModelImport model, Duration timeout) throws IOException {
    try (Exchange<ImportModelRequest, ImportModelResponse> exchange =
        new Exchange<>(channel, ModelServiceGrpc.getImportModelMethod(), within(timeout))) {
      ModelWire.send(model, exchange);
      ImportModelResponse response = exchange.receive();
      if (response == null) {
        throw ExplainException.malformed("the server answered the import with nothing", null);
      }
      return ModelWire.decode(response.getModel());
    } catch (InterruptedException interrupted) {
      throw ExplainException.of(interrupted);
    }
  }

  /** Removes all versions of a model. The server must allow it. */
  public void deleteModel(String name) {
    deleteModel(name, "");
  }

  /**
   * Removes a version of a model, or all versions if the version is empty. The server must allow
   * it.
   */
  public void deleteModel(String name, String version) {
    var request = DeleteModelRequest.newBuilder().setName(name).setVersion(version).build();
    call(ModelServiceGrpc.getDeleteModelMethod(), request, timeout);
  }

  /**
   * Chooses which version of a model answers requests that name none, and a canary that gets a
   * share of them. The server must allow it.
   */
  public ModelRoute routeModel(String name, ModelRoute route) {
    return ModelWire.decode(
        call(ModelServiceGrpc.getRouteModelMethod(), ModelWire.encode(name, route), timeout)
            .getRoute());
  }

  /**
   * Ends the canary of a model or, if it has none, makes its previous default version the default
   * again. The server must allow it.
   */
  public ModelRoute rollBackModel(String name) {
    var request = RollBackModelRequest.newBuilder().setName(name).build();
    return ModelWire.decode(
        call(ModelServiceGrpc.getRollBackModelMethod(), request, timeout).getRoute());
  }

  /**
   * Starts an explanation that the server keeps as an operation, whether or not anybody waits for
   * it; it may cost more than a call. The server must keep operations.
   */
  public Operation start(Request request) {
    return start(request, UUID.randomUUID().toString());
  }

  /**
   * Does the same with an id of the caller's: a call with the id of an earlier one returns the
   * operation that it started, and is not charged again.
   */
  public Operation start(Request request, String requestId) {
    var message =
        StartExplainRequest.newBuilder()
            .setRequest(Wire.encode(request))
            .setRequestId(requestId)
            .build();
    return Operation.decode(
        call(OperationServiceGrpc.getStartExplainMethod(), message, timeout).getOperation());
  }

  /** Describes an operation that was started before, here or elsewhere with the same token. */
  public Operation operation(String name) {
    var message = GetOperationRequest.newBuilder().setName(name).build();
    return Operation.decode(
        call(OperationServiceGrpc.getGetOperationMethod(), message, timeout).getOperation());
  }

  /** Lists the operations of this caller, the newest first, without their results. */
  public List<Operation> operations() {
    var message = ListOperationsRequest.getDefaultInstance();
    return call(OperationServiceGrpc.getListOperationsMethod(), message, timeout)
        .getOperationsList()
        .stream()
        .map(Operation::decode)
        .toList();
  }

  /** Waits for the end of an operation, for as long as it takes. */
  public Operation waitForOperation(String name) {
    var message =
        WaitOperationRequest.newBuilder()
            .setName(name)
            .setTimeoutMs((int) LONGEST_WAIT.toMillis())
            .build();
    while (true) {
      var operation =
          Operation.decode(
              call(
                      OperationServiceGrpc.getWaitOperationMethod(),
                      message,
                      LONGEST_WAIT.multipliedBy(2))
                  .getOperation());
      if (operation.hasEnded()) {
        return operation;
      }
    }
  }

  /** Asks the server to end an operation; this does nothing if it has ended. */
  public void cancelOperation(String name) {
    var message = CancelOperationRequest.newBuilder().setName(name).build();
    call(OperationServiceGrpc.getCancelOperationMethod(), message, timeout);
  }

  /** Removes an operation that has ended, with its result. */
  public void deleteOperation(String name) {
    var message = DeleteOperationRequest.newBuilder().setName(name).build();
    call(OperationServiceGrpc.getDeleteOperationMethod(), message, timeout);
  }

  /** Closes the connection and cancels running calls. */
  @Override
  public void close() {
    channel.shutdownNow();
  }

  private static void oneTarget(Request request) {
    if (!request.targets().isEmpty()) {
      throw ExplainException.of(
          Code.INVALID_ARGUMENT, "explain takes one target; use explainMany", "targets");
    }
  }

  private <Q, A> A call(MethodDescriptor<Q, A> method, Q request, Duration timeout) {
    try {
      return ClientCalls.blockingUnaryCall(channel, method, within(timeout), request);
    } catch (StatusRuntimeException failed) {
      throw ExplainException.of(failed);
    }
  }

  private CallOptions within(Duration timeout) {
    return timeout == null
        ? options
        : options.withDeadlineAfter(timeout.toNanos(), TimeUnit.NANOSECONDS);
  }
}

// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import io.grpc.ClientCall;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.StreamObserver;
import java.util.concurrent.CompletableFuture;
import lstmexplain.v1.ExplainRequest;
import lstmexplain.v1.ExplainResponse;

/** A call whose caller does not wait for the result. */
final class FutureResult {
  private FutureResult() {}

  /** Starts the call. Cancelling the future cancels it. */
  static CompletableFuture<Result> of(
      ClientCall<ExplainRequest, ExplainResponse> call, ExplainRequest request) {
    CompletableFuture<Result> result = new CompletableFuture<>();
    result.whenComplete(
        (done, wrong) -> {
          if (wrong != null) { // from the caller; a call that failed by itself is over
            call.cancel("the future was completed", wrong);
          }
        });
    ClientCalls.asyncUnaryCall(
        call,
        request,
        new StreamObserver<>() {
          @Override
          public void onNext(ExplainResponse response) {
            try {
              result.complete(Result.decode(response));
            } catch (ExplainException unreadable) {
              result.completeExceptionally(unreadable);
            }
          }

          @Override
          public void onError(Throwable failed) {
            result.completeExceptionally(
                failed instanceof StatusRuntimeException reported
                    ? ExplainException.of(reported)
                    : failed);
          }

          @Override
          public void onCompleted() {}
        });
    return result;
  }
}

// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;

/**
 * One streaming call whose ends block: a message is sent when there is room for it, and an answer
 * is asked for when the one before it was taken. One thread may send while another receives.
 *
 * <p>gRPC has such a thing, but it forgets the trailers, and with them which field was wrong.
 */
final class Exchange<Q, A> implements AutoCloseable {
  private final ClientCall<Q, A> call;
  private A answer;
  private Status ended;
  private Metadata trailers;

  Exchange(Channel channel, MethodDescriptor<Q, A> method, CallOptions options) {
    call = channel.newCall(method, options);
    call.start(new Listener(), new Metadata());
    call.request(1);
  }

  /** Waits for room and sends; false if the call is over, and {@link #receive} says why. */
  synchronized boolean send(Q message) throws InterruptedException {
    while (ended == null && !call.isReady()) {
      wait();
    }
    if (ended == null) {
      call.sendMessage(message);
    }
    return ended == null;
  }

  /** Nothing more will be sent. */
  synchronized void finish() {
    if (ended == null) {
      call.halfClose();
    }
  }

  /** Waits for an answer; null after the last. Throws ExplainException if the call failed. */
  synchronized A receive() throws InterruptedException {
    while (answer == null && ended == null) {
      wait();
    }
    A taken = answer;
    answer = null;
    if (taken != null) {
      call.request(1);
    } else if (!ended.isOk()) {
      throw ExplainException.of(ended.asRuntimeException(trailers));
    }
    return taken;
  }

  /** Cancels the call, unless it is over; answers that have not been taken are lost. */
  @Override
  public void close() {
    cancel(null);
  }

  /** Cancels the call, unless it is over; cause: why, or null. */
  synchronized void cancel(Throwable cause) {
    if (ended == null) {
      ended = Status.CANCELLED.withDescription("the caller closed the stream").withCause(cause);
      answer = null;
      call.cancel(ended.getDescription(), cause);
      notifyAll();
    }
  }

  private final class Listener extends ClientCall.Listener<A> {
    @Override
    public void onMessage(A message) {
      synchronized (Exchange.this) {
        answer = ended == null ? message : null;
        Exchange.this.notifyAll();
      }
    }

    @Override
    public void onReady() {
      synchronized (Exchange.this) {
        Exchange.this.notifyAll();
      }
    }

    @Override
    public void onClose(Status status, Metadata said) {
      synchronized (Exchange.this) {
        if (ended == null) {
          ended = status;
          trailers = said;
        }
        Exchange.this.notifyAll();
      }
    }
  }
}

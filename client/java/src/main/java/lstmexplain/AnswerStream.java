// SPDX-License-Identifier: Apache-2.0

package lstmexplain;

import io.grpc.Status;
import io.grpc.Status.Code;
import java.util.Iterator;
import java.util.Spliterator;
import java.util.Spliterators;
import java.util.function.Consumer;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import lstmexplain.v1.ExplainResponse;
import lstmexplain.v1.ExplainStreamRequest;
import lstmexplain.v1.ExplainStreamResponse;

/** The answers of one stream, taken from the exchange as the caller comes for them. */
final class AnswerStream extends Spliterators.AbstractSpliterator<Answer> {
  private final Exchange<ExplainStreamRequest, ExplainStreamResponse> exchange;
  private final ProgressListener progress;
  private volatile Throwable sendingFailed;

  private AnswerStream(
      ProgressListener progress, Exchange<ExplainStreamRequest, ExplainStreamResponse> exchange) {
    super(Long.MAX_VALUE, Spliterator.NONNULL | Spliterator.ORDERED);
    this.progress = progress;
    this.exchange = exchange;
  }

  /** Sends the requests from a thread of their own, for taking the next one may block. */
  static Stream<Answer> open(
      Iterable<Request> requests,
      ProgressListener progress,
      Exchange<ExplainStreamRequest, ExplainStreamResponse> exchange) {
    AnswerStream answers = new AnswerStream(progress, exchange);
    Thread sender = new Thread(() -> answers.send(requests.iterator()), "lstm-explain-sender");
    sender.setDaemon(true);
    sender.start();
    return StreamSupport.stream(answers, false)
        .onClose(
            () -> {
              exchange.close();
              sender.interrupt();
            });
  }

  private void send(Iterator<Request> requests) {
    try {
      for (int place = 0; requests.hasNext(); place++) {
        Request request = requests.next();
        ExplainStreamRequest message =
            ExplainStreamRequest.newBuilder()
                .setId(request.id().isEmpty() ? Integer.toString(place) : request.id())
                .setRequest(Wire.encode(request))
                .setProgress(progress != null)
                .build();
        if (!exchange.send(message)) {
          return;
        }
      }
      exchange.finish();
    } catch (InterruptedException closed) {
      Thread.currentThread().interrupt();
    } catch (RuntimeException | Error wrong) { // for the one who takes the answers
      sendingFailed = wrong;
      exchange.cancel(wrong);
    }
  }

  @Override
  public boolean tryAdvance(Consumer<? super Answer> action) {
    ExplainStreamResponse response;
    try {
      response = exchange.receive();
      while (response != null && response.hasProgress()) {
        if (progress != null) {
          var said = response.getProgress();
          progress.progress(response.getId(), said.getDone(), said.getTotal());
        }
        response = exchange.receive();
      }
    } catch (InterruptedException interrupted) {
      exchange.cancel(interrupted);
      throw ExplainException.of(interrupted);
    } catch (ExplainException failed) {
      if (sendingFailed instanceof Error wrong) {
        throw wrong;
      } else if (sendingFailed instanceof RuntimeException wrong) {
        throw wrong;
      }
      throw failed;
    }
    if (response == null) {
      return false;
    }
    action.accept(decode(response));
    return true;
  }

  private static Answer decode(ExplainStreamResponse response) {
    if (response.hasError()) {
      var said = response.getError();
      Code code = Status.fromCodeValue(said.getCode()).getCode();
      return new Answer(
          response.getId(), null, ExplainException.of(code, said.getMessage(), said.getField()));
    }
    try {
      ExplainResponse said = response.getResponse();
      if (said.getTargetsCount() > 0) {
        return new Answer(response.getId(), null, null, TargetAnswers.decode(said));
      }
      return new Answer(response.getId(), Result.decode(said), null);
    } catch (ExplainException unreadable) {
      return new Answer(response.getId(), null, unreadable);
    }
  }
}

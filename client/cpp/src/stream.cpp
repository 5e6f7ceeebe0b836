// SPDX-License-Identifier: Apache-2.0

#include "lstm_explain/stream.hpp"

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "connection.hpp"
#include "status.hpp"
#include "wire.hpp"

namespace lstm_explain {

/// One thread writes requests, one reads answers, and both lay them into a place for one answer.
///
/// A thread each, because a write waits while the server does not listen, and it listens again only when somebody
/// reads.
struct AnswerStream::Calls {
  using Source = std::function<std::optional<Request>()>;

  Calls(std::shared_ptr<const Connection> shared, Source source, const CallOptions& options, ProgressReport reports)
      : progress(std::move(reports)),
        connection(std::move(shared)),
        call(*connection, options, std::nullopt),
        stream(connection->explanations->ExplainStream(&call.context)),
        reader([this] { read(); }) {
    try {
      writer = std::thread([this, next = std::move(source)] { write(next); });
    } catch (...) {
      leave();
      throw;
    }
  }

  ~Calls() { leave(); }

  void leave() {
    {
      const std::lock_guard lock(mutex);
      left = true;
    }
    changed.notify_all();
    call.context.TryCancel();
    if (writer.joinable()) writer.join();
    reader.join();
  }

  void write(const Source& next) {
    try {
      std::int64_t number = 0;
      while (auto request = next()) {
        if (request->id.empty()) request->id = std::to_string(number);
        ++number;
        if (!send(*request)) break;
      }
    } catch (...) {
      breaks(std::current_exception());
      call.context.TryCancel();
    }
    {
      const std::lock_guard lock(sending);
      if (!finished) stream->WritesDone();
    }
    ends(writing);
  }

  /// Returns false once nobody listens.
  bool send(const Request& request) {
    v1::ExplainStreamRequest message;
    try {
      message.set_id(wire::checked(request.id, "id"));
      wire::encode(request, message.mutable_request());
      message.set_progress(static_cast<bool>(progress));
    } catch (const Error& error) {
      return offer(Answer(request.id, error));
    }
    const std::lock_guard lock(sending);
    return !finished && stream->Write(message);
  }

  void read() {
    v1::ExplainStreamResponse message;
    while (stream->Read(&message) && (message.has_progress() ? tell(message) : offer(decode(message)))) {
    }
    {
      const std::lock_guard lock(sending);  // a write that is under way fails, now that the server has ended the call
      finished = true;
    }
    try {
      check(stream->Finish());
    } catch (const Error&) {
      breaks(std::current_exception());
    }
    ends(reading);
  }

  /// Returns false once the stream breaks.
  bool tell(const v1::ExplainStreamResponse& message) {
    try {
      if (progress) progress(message.id(), message.progress().done(), message.progress().total());
      return true;
    } catch (...) {
      breaks(std::current_exception());
      call.context.TryCancel();
      return false;
    }
  }

  static Answer decode(const v1::ExplainStreamResponse& message) {
    if (message.has_error()) {
      Failure failure;
      failure.code = status_code(message.error().code());
      failure.message = message.error().message();
      failure.field = message.error().field();
      return {message.id(), Error(failure)};
    }
    try {
      if (!message.response().targets().empty()) return {message.id(), wire::decode_each(message.response())};
      return {message.id(), wire::read<Result>(message.response())};
    } catch (const Error& error) {
      return {message.id(), error};
    }
  }

  /// Waits until the place is free; returns false once the caller has left.
  bool offer(Answer answer) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return left || !waiting; });
    if (left) return false;
    waiting = std::move(answer);
    changed.notify_all();
    return true;
  }

  /// Keeps the first error that breaks the stream, which the caller then receives.
  void breaks(std::exception_ptr why) {
    const std::lock_guard lock(mutex);
    if (!broken) broken = std::move(why);
    changed.notify_all();
  }

  void ends(bool& working) {
    const std::lock_guard lock(mutex);
    working = false;
    changed.notify_all();
  }

  std::optional<Answer> next() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return waiting || broken || !(reading || writing); });
    if (!waiting && broken) {
      if (std::exchange(reported, true)) return std::nullopt;
      std::rethrow_exception(broken);
    }
    std::optional<Answer> out = std::exchange(waiting, std::nullopt);
    changed.notify_all();
    return out;
  }

  const ProgressReport progress;
  const std::shared_ptr<const Connection> connection;
  Call call;
  const std::unique_ptr<grpc::ClientReaderWriterInterface<v1::ExplainStreamRequest, v1::ExplainStreamResponse>> stream;

  std::mutex sending;     // held while writing
  bool finished = false;  // under `sending`: nothing may be written any more

  std::mutex mutex;
  std::condition_variable changed;
  std::optional<Answer> waiting;
  std::exception_ptr broken;
  bool reported = false;  // what broke the stream has been thrown
  bool reading = true, writing = true;
  bool left = false;

  std::thread reader, writer;  // last: they use everything above
};

AnswerStream::AnswerStream(std::unique_ptr<Calls> calls) : calls_(std::move(calls)) {}
AnswerStream::~AnswerStream() = default;
AnswerStream::AnswerStream(AnswerStream&&) noexcept = default;
AnswerStream& AnswerStream::operator=(AnswerStream&&) noexcept = default;

std::optional<Answer> AnswerStream::next() { return calls_->next(); }

AnswerStream Client::explain_stream(std::function<std::optional<Request>()> next, const CallOptions& options,
                                    ProgressReport progress) const {
  return AnswerStream(
      std::make_unique<AnswerStream::Calls>(connection_, std::move(next), options, std::move(progress)));
}

AnswerStream Client::explain_stream(std::vector<Request> requests, const CallOptions& options,
                                    ProgressReport progress) const {
  return explain_stream(
      [requests = std::move(requests), place = std::size_t{0}]() mutable -> std::optional<Request> {
        if (place == requests.size()) return std::nullopt;
        return std::move(requests[place++]);
      },
      options, std::move(progress));
}

}  // namespace lstm_explain

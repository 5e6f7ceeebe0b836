/// @file
/// The answers to many requests.
#pragma once

#include <cstddef>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "lstm_explain/error.hpp"
#include "lstm_explain/explain.hpp"

namespace lstm_explain {

/// What came back for one request: a result, or why there is none.
class Answer {
 public:
  Answer(std::string id, Result result) : id_(std::move(id)), result_(std::move(result)) {}
  Answer(std::string id, Error error) : id_(std::move(id)), error_(std::move(error)) {}

  /// That of the request.
  const std::string& id() const { return id_; }
  bool ok() const { return !error_; }
  /// Why there is no result, or null.
  const Error* error() const { return error_ ? &*error_ : nullptr; }
  /// @throws the error, as the unary call would have, where there is no result.
  const Result& result() const {
    if (error_) error_->raise();
    return *result_;
  }

 private:
  std::string id_;
  std::optional<Result> result_;
  std::optional<Error> error_;
};

/// Answers as they are ready, in any order. A request that fails has an answer of its own and the stream goes on; an
/// exception means that the stream broke.
///
///     for (const Answer& answer : client.explain_stream(requests)) { … }
///
/// One answer is kept until it is asked for; while nobody asks, the server, and then the source of requests, has to
/// wait. The source runs in a thread of the stream's own, and what it throws comes out of next(). Destruction cancels
/// what has not been answered, and waits for the source to return.
class AnswerStream {
 public:
  struct Calls;
  explicit AnswerStream(std::unique_ptr<Calls> calls);
  ~AnswerStream();
  AnswerStream(AnswerStream&&) noexcept;
  AnswerStream& operator=(AnswerStream&&) noexcept;

  /// The next answer; none after the last.
  std::optional<Answer> next();

  /// An input iterator: one pass, from one thread.
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = Answer;
    using difference_type = std::ptrdiff_t;
    using pointer = const Answer*;
    using reference = const Answer&;

    Iterator() = default;
    explicit Iterator(AnswerStream& stream) : stream_(&stream) { ++*this; }
    reference operator*() const { return *answer_; }
    pointer operator->() const { return &*answer_; }
    Iterator& operator++() {
      answer_ = stream_->next();
      return *this;
    }
    void operator++(int) { ++*this; }
    /// Iterators are equal at the end only.
    friend bool operator==(const Iterator& a, const Iterator& b) { return !a.answer_ && !b.answer_; }
    friend bool operator!=(const Iterator& a, const Iterator& b) { return !(a == b); }

   private:
    AnswerStream* stream_ = nullptr;
    std::optional<Answer> answer_;
  };
  Iterator begin() { return Iterator(*this); }
  Iterator end() { return {}; }

 private:
  std::unique_ptr<Calls> calls_;
};

}  // namespace lstm_explain

// SPDX-License-Identifier: Apache-2.0

/// @file
/// The answers to many requests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lstm_explain/error.hpp"
#include "lstm_explain/explain.hpp"

namespace lstm_explain {

/// The answer to one request: a result, the results of a request with several targets, or an error.
class Answer {
 public:
  Answer(std::string id, Result result) : id_(std::move(id)), result_(std::move(result)) {}
  Answer(std::string id, std::vector<Result> results) : id_(std::move(id)), results_(std::move(results)) {}
  Answer(std::string id, Error error) : id_(std::move(id)), error_(std::move(error)) {}

  /// The id of the request.
  const std::string& id() const { return id_; }
  bool ok() const { return !error_; }
  /// The error, or null.
  const Error* error() const { return error_ ? &*error_ : nullptr; }
  /// The result of a request for one target.
  /// @throws the error that the unary call would throw, if there is no result.
  const Result& result() const {
    if (error_) error_->raise();
    return result_.value();
  }
  /// A result per target of a request for several.
  /// @throws the error that the unary call would throw, if there are none.
  const std::vector<Result>& results() const {
    if (error_) error_->raise();
    return results_;
  }

 private:
  std::string id_;
  std::optional<Result> result_;
  std::vector<Result> results_;
  std::optional<Error> error_;
};

/// Receives the progress of a long request before its answer, at most ten times a second: the id of the request, how
/// often the model has run on the batch, and how often it is expected to run in all. Only methods that run the model many
/// times report. next() rethrows what it throws.
using ProgressReport = std::function<void(const std::string& id, std::int64_t done, std::int64_t total)>;

/// Answers in the order in which they become ready. A request that fails has an answer with its error, and the stream
/// continues. An exception means that the stream itself broke.
///
///     for (const Answer& answer : client.explain_stream(requests)) { … }
///
/// The stream buffers one answer. While nobody reads it, the server waits, and then the source of requests. The source
/// runs in a thread of the stream; next() rethrows what it throws. The destructor cancels all unanswered requests and
/// waits for the source to return.
class AnswerStream {
 public:
  struct Calls;
  explicit AnswerStream(std::unique_ptr<Calls> calls);
  ~AnswerStream();
  AnswerStream(AnswerStream&&) noexcept;
  AnswerStream& operator=(AnswerStream&&) noexcept;

  /// Returns the next answer, or none after the last one.
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

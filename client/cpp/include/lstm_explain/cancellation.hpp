// SPDX-License-Identifier: Apache-2.0

/// @file Cancels calls from another thread.
#pragma once

#include <functional>
#include <memory>

namespace lstm_explain {

/// Copies share one state. Pass one to a call; cancel() then ends that call with Cancelled, from any thread.
///
///     lstm_explain::CancellationToken token;
///     std::thread watcher([token] { wait_for_the_user(); token.cancel(); });
///     client.explain(request, {std::chrono::seconds(5), token});
class CancellationToken {
 public:
  CancellationToken();

  /// Cancels all current and future calls with this token.
  void cancel() const;
  bool cancelled() const;

  /// Runs a function on cancel(), at once if that has been; takes it back on destruction. `react` must not throw, nor
  /// use the token.
  class Reaction {
   public:
    Reaction(const CancellationToken& token, std::function<void()> react);
    ~Reaction();
    Reaction(const Reaction&) = delete;
    Reaction& operator=(const Reaction&) = delete;

   private:
    struct Entry;
    std::unique_ptr<Entry> entry_;
  };

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace lstm_explain

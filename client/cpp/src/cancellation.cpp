// SPDX-License-Identifier: Apache-2.0

#include "lstm_explain/cancellation.hpp"

#include <list>
#include <mutex>

namespace lstm_explain {

struct CancellationToken::State {
  std::mutex mutex;
  bool cancelled = false;
  std::list<std::function<void()>> reactions;
};

struct CancellationToken::Reaction::Entry {
  std::shared_ptr<State> state;
  std::list<std::function<void()>>::iterator place;
};

CancellationToken::CancellationToken() : state_(std::make_shared<State>()) {}

void CancellationToken::cancel() const {
  // Under the lock: a reaction that is taken back meanwhile must not run afterwards.
  const std::lock_guard lock(state_->mutex);
  if (state_->cancelled) return;
  state_->cancelled = true;
  for (const auto& react : state_->reactions) react();
}

bool CancellationToken::cancelled() const {
  const std::lock_guard lock(state_->mutex);
  return state_->cancelled;
}

CancellationToken::Reaction::Reaction(const CancellationToken& token, std::function<void()> react)
    : entry_(std::make_unique<Entry>()) {
  entry_->state = token.state_;
  const std::lock_guard lock(entry_->state->mutex);
  entry_->place = entry_->state->reactions.insert(entry_->state->reactions.end(), std::move(react));
  if (entry_->state->cancelled) (*entry_->place)();
}

CancellationToken::Reaction::~Reaction() {
  const std::lock_guard lock(entry_->state->mutex);
  entry_->state->reactions.erase(entry_->place);
}

}  // namespace lstm_explain

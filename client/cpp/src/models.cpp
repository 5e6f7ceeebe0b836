// SPDX-License-Identifier: Apache-2.0

#include "lstm_explain/models.hpp"

namespace lstm_explain {

const char* name(ModelState state) {
  switch (state) {
    case ModelState::loading: return "loading";
    case ModelState::ready: return "ready";
    case ModelState::failed: return "failed";
    case ModelState::unloaded: return "unloaded";
    case ModelState::unspecified: break;
  }
  return "unspecified";
}

}  // namespace lstm_explain

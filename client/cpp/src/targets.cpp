// SPDX-License-Identifier: Apache-2.0

#include <type_traits>

#include "status.hpp"
#include "wire.hpp"

namespace lstm_explain::wire {
namespace {

/// Cuts the tensors of one target out of those of several.
class Cut {
 public:
  Cut(int targets, int number)
      : targets_(static_cast<std::size_t>(targets)), number_(static_cast<std::size_t>(number)) {}

  void operator()(v1::Tensor* tensor) const {
    const std::size_t size = tensor->data().size() / targets_;
    if (tensor->shape_size() == 0 || tensor->shape(0) != static_cast<std::int64_t>(targets_) ||
        size * targets_ != tensor->data().size()) {
      malformed("tensor \"" + tensor->name() + "\" does not have " + std::to_string(targets_) + " targets in front");
    }
    tensor->mutable_shape()->erase(tensor->shape().begin());
    tensor->set_data(tensor->data().substr(number_ * size, size));
  }

  void operator()(google::protobuf::RepeatedPtrField<v1::Tensor>* tensors) const {
    for (v1::Tensor& tensor : *tensors) (*this)(&tensor);
  }

 private:
  std::size_t targets_, number_;
};

/// The answer for one of several targets, as a request for it alone would get it.
v1::ExplainResponse alone(const v1::ExplainResponse& message, int number) {
  const Cut cut(message.targets_size(), number);
  v1::ExplainResponse out = message;
  cut(out.mutable_explained());
  cut(out.mutable_relevance());
  cut(out.mutable_captured());
  cut(out.mutable_standard_error());
  v1::Ledger& ledger = *out.mutable_ledger();
  for (v1::Tensor* part : {ledger.mutable_inputs(), ledger.mutable_initial_states(), ledger.mutable_absorbed(),
                           ledger.mutable_residual()}) {
    cut(part);
  }
  for (v1::NodeShare& share : *ledger.mutable_by_node()) cut(share.mutable_absorbed());
  const v1::TargetAnswer& own = message.targets(number);
  *out.mutable_target() = own.target();
  *out.mutable_warnings() = own.warnings();
  out.set_explained_quantity(own.explained_quantity());
  *out.mutable_steps_used() = own.steps_used();
  *out.mutable_not_explained() = own.not_explained();
  out.clear_targets();
  if (out.has_groups()) {
    cut(out.mutable_groups()->mutable_relevance());
    cut(out.mutable_groups()->mutable_standard_error());
  }
  return out;
}

}  // namespace

void encode(const TargetSet& targets, v1::TargetSet* out) {
  std::visit(
      [out](const auto& held) {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<Held, Target>) {
          encode(held, out->mutable_target());
        } else if constexpr (std::is_same_v<Held, Every>) {
          encode(held, out->mutable_every());
        }
      },
      targets);
}

std::vector<Result> decode_each(const v1::ExplainResponse& message) {
  if (message.targets().empty()) {
    malformed("the answer is for one target: the server is older than requests with several targets");
  }
  std::vector<Result> out;
  for (int number = 0; number < message.targets_size(); ++number) out.push_back(read<Result>(alone(message, number)));
  return out;
}

}  // namespace lstm_explain::wire

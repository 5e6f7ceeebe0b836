// SPDX-License-Identifier: Apache-2.0

/// One pass over the cases and golden messages on one kind of connection.
#pragma once

#include <filesystem>
#include <functional>

#include "build.hpp"

namespace conformance {

using Connect = std::function<lx::Client(const std::string& token)>;
using Hashes = std::map<std::string, std::string>;

class Suite {
 public:
  Suite(Connect connect, std::string token, std::string over, std::filesystem::path models)
      : connect_(std::move(connect)), token_(std::move(token)), over_(std::move(over)), models_(std::move(models)) {}

  /// Prints a line for each; returns whether all hold.
  bool run(const std::filesystem::path& cases, const std::filesystem::path& golden);

 private:
  void one(const json& said);
  void golden(const std::filesystem::path& folder);
  void say(const std::string& name, const std::string& wrong, const Hashes& found);

  Connect connect_;
  std::string token_, over_;
  std::filesystem::path models_;
  bool good_ = true;
};

}  // namespace conformance

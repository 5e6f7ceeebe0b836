// SPDX-License-Identifier: Apache-2.0

#include <openssl/evp.h>

#include <fstream>
#include <memory>

#include "connection.hpp"
#include "status.hpp"
#include "wire.hpp"

namespace lstm_explain {
namespace {

constexpr std::size_t CHUNK_BYTES = 1U << 20U;

std::ifstream opened(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::error_code none;
  if (!file || !std::filesystem::is_regular_file(path, none))
    refuse("path", "the file " + path.string() + " cannot be read");
  return file;
}

/// Gives the file to `use`, a piece at a time, until it returns false.
template <class Use>
void read(const std::filesystem::path& path, Use use) {
  std::ifstream file = opened(path);
  std::string piece(CHUNK_BYTES, '\0');
  do {
    file.read(piece.data(), static_cast<std::streamsize>(CHUNK_BYTES));
    piece.resize(static_cast<std::size_t>(file.gcount()));
    if (file.bad()) refuse("path", "the file " + path.string() + " cannot be read");
  } while (!piece.empty() && use(piece) && file);
}

/// Sets SHA-256 and size of a file, which the server holds against what it gets.
template <class Head>
void describe(const std::filesystem::path& path, Head* head) {
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr);
  std::int64_t size = 0;
  read(path, [&](const std::string& piece) {
    size += static_cast<std::int64_t>(piece.size());
    return EVP_DigestUpdate(context.get(), piece.data(), piece.size()) == 1;
  });
  std::string digest(EVP_MAX_MD_SIZE, '\0');
  unsigned int length = 0;
  EVP_DigestFinal_ex(context.get(), reinterpret_cast<unsigned char*>(digest.data()), &length);
  digest.resize(length);
  head->set_sha256(digest);
  head->set_size(size);
}

using Writer = grpc::ClientWriterInterface<v1::ImportModelRequest>;

/// Returns false once the server no longer listens; its answer says why.
bool send(Writer& writer, const v1::ImportModelRequest& head, const std::filesystem::path& path) {
  bool heard = writer.Write(head);
  if (!heard) return false;
  v1::ImportModelRequest part;
  read(path, [&](const std::string& piece) {
    part.set_chunk(piece);
    return heard = writer.Write(part);
  });
  return heard;
}

}  // namespace

ModelDetail Client::import_model(const Import& model, const CallOptions& options) const {
  v1::ImportModelRequest start;
  start.mutable_start()->set_name(wire::checked(model.name, "name"));
  start.mutable_start()->set_version(wire::checked(model.version, "version"));
  start.mutable_start()->set_config_yaml(wire::checked(model.config, "config"));
  describe(model.path, start.mutable_start());
  std::vector<v1::ImportModelRequest> files(model.files.size());
  for (std::size_t i = 0; i < files.size(); ++i) {
    files[i].mutable_file()->set_name(wire::checked(model.files[i].filename().string(), "files"));
    describe(model.files[i], files[i].mutable_file());
  }

  Call call(*connection_, options, std::nullopt);
  v1::ImportModelResponse received;
  const auto writer = connection_->models->ImportModel(&call.context, &received);
  try {
    bool heard = send(*writer, start, model.path);
    for (std::size_t i = 0; heard && i < files.size(); ++i) heard = send(*writer, files[i], model.files[i]);
  } catch (...) {
    call.context.TryCancel();  // an import that is given up must not stay half sent
    writer->Finish();
    throw;
  }
  writer->WritesDone();
  check(writer->Finish());
  return wire::read<ModelDetail>(received.model());
}

}  // namespace lstm_explain

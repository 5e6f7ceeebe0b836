# gRPC with protobuf as the target lstm_explain::grpc: by CMake's own packages, or by pkg-config where a distribution
# has none. Used for the build and, installed, by whoever links the library.
find_package(Threads REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)

if(NOT TARGET lstm_explain::grpc)
  add_library(lstm_explain::grpc INTERFACE IMPORTED)
  find_package(gRPC CONFIG QUIET)
  if(TARGET gRPC::grpc++ AND TARGET protobuf::libprotobuf)
    target_link_libraries(lstm_explain::grpc INTERFACE gRPC::grpc++ protobuf::libprotobuf)
  else()
    find_package(PkgConfig REQUIRED)
    pkg_check_modules(LSTM_EXPLAIN_GRPC REQUIRED IMPORTED_TARGET grpc++ protobuf)
    target_link_libraries(lstm_explain::grpc INTERFACE PkgConfig::LSTM_EXPLAIN_GRPC)
  endif()
endif()

# The stubs, from the repository's proto/, by the protoc of the libprotobuf that is linked: generated code is good for
# one version of the library only, so none is committed. They are objects of the library and are not installed.
set(PROTO_DIR ${CMAKE_CURRENT_SOURCE_DIR}/../../proto)
set(STUBS_DIR ${CMAKE_CURRENT_BINARY_DIR}/stubs)
file(MAKE_DIRECTORY ${STUBS_DIR})
find_program(PROTOC protoc REQUIRED)
find_program(GRPC_CPP_PLUGIN grpc_cpp_plugin REQUIRED)

set(protos explanation method model operation tensor)
set(services explanation model operation)
list(TRANSFORM protos PREPEND lstm_explain/v1/)
list(TRANSFORM services PREPEND lstm_explain/v1/)
set(proto_sources ${protos})
set(messages ${protos})
set(stub_sources ${services})
list(TRANSFORM proto_sources REPLACE "(.+)" "${PROTO_DIR}/\\1.proto")
list(TRANSFORM messages REPLACE "(.+)" "${STUBS_DIR}/\\1.pb.cc")
list(TRANSFORM stub_sources REPLACE "(.+)" "${STUBS_DIR}/\\1.grpc.pb.cc")
list(APPEND stub_sources ${messages})
string(REGEX REPLACE "\\.cc(;|$)" ".h\\1" stub_headers "${stub_sources}")
add_custom_command(
  OUTPUT ${stub_sources} ${stub_headers}
  COMMAND ${PROTOC} -I${PROTO_DIR} --cpp_out=${STUBS_DIR} --grpc_out=${STUBS_DIR}
          --plugin=protoc-gen-grpc=${GRPC_CPP_PLUGIN} ${proto_sources}
  DEPENDS ${proto_sources}
  VERBATIM)
set(details_proto ${CMAKE_CURRENT_SOURCE_DIR}/src/error_details.proto)
add_custom_command(
  OUTPUT ${STUBS_DIR}/error_details.pb.cc ${STUBS_DIR}/error_details.pb.h
  COMMAND ${PROTOC} -I${CMAKE_CURRENT_SOURCE_DIR}/src --cpp_out=${STUBS_DIR} ${details_proto}
  DEPENDS ${details_proto}
  VERBATIM)

add_library(lstm_explain_stubs OBJECT ${stub_sources} ${stub_headers} ${STUBS_DIR}/error_details.pb.cc)
set_target_properties(lstm_explain_stubs PROPERTIES
  POSITION_INDEPENDENT_CODE ON
  UNITY_BUILD ON
  UNITY_BUILD_BATCH_SIZE 0)
# Each file of messages has static variables of the same names.
set_source_files_properties(${messages} ${STUBS_DIR}/error_details.pb.cc PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
target_compile_features(lstm_explain_stubs PUBLIC cxx_std_17)
target_include_directories(lstm_explain_stubs PRIVATE ${STUBS_DIR})
target_link_libraries(lstm_explain_stubs PRIVATE lstm_explain::grpc)

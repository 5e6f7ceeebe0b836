# Follows the README: installs the library, and builds the project that the README tells to write. By BUILD, the
# library's build; README; FOLDER, to work in; OPTIONS, more for the project.
file(REMOVE_RECURSE ${FOLDER})
file(READ ${README} text)

# Writes the block of code whose first line names the file.
function(write_block name comment)
  string(FIND "${text}" "${comment} ${name}\n" begin)
  string(SUBSTRING "${text}" ${begin} -1 rest)
  string(FIND "${rest}" "\n```" length)
  string(SUBSTRING "${rest}" 0 ${length} block)
  file(WRITE ${FOLDER}/${name} "${block}\n")
endfunction()
write_block(CMakeLists.txt "#")
write_block(why.cpp "//")

function(run)
  execute_process(COMMAND ${ARGV} COMMAND_ERROR_IS_FATAL ANY)
endfunction()
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${FOLDER}/prefix)
run(${CMAKE_COMMAND} -S ${FOLDER} -B ${FOLDER}/build -DCMAKE_PREFIX_PATH=${FOLDER}/prefix
    "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror" ${OPTIONS})
run(${CMAKE_COMMAND} --build ${FOLDER}/build)

# SPDX-License-Identifier: MIT
# Unit tests stand beside their source (src/*/test-*.c, bench/test-*.c), tests of several processes in tests/test-*.c.
# Each links the library's objects (internal functions included) and the runner, and speaks TAP.
file(GLOB test_sources CONFIGURE_DEPENDS src/*/test-*.c src/*/*/test-*.c bench/test-*.c tests/test-*.c)
file(GLOB runner_sources CONFIGURE_DEPENDS tests/runner*.c tests/mechanism*.c tests/tracee.c tests/tracee-proc.c tests/killpoints*.c)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(APPEND runner_sources tests/tracee-x86-64.c)
else()
  list(APPEND runner_sources tests/tracee-none.c)
endif()
if(NOT runner_sources)
  return()
endif()
add_library(naru-runner STATIC ${runner_sources})
target_include_directories(naru-runner PUBLIC tests)
foreach(source ${test_sources})
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source})
  target_link_libraries(${name} PRIVATE naru-runner naru-bench naru-static)
  set_property(GLOBAL APPEND PROPERTY naru_tests ${name})
endforeach()

# Compiled here too, not run, so that a change that breaks the fuzz targets is seen without clang (cmake/fuzz.cmake).
file(GLOB fuzz_sources CONFIGURE_DEPENDS fuzz/*.c)
foreach(source ${fuzz_sources})
  get_filename_component(name ${source} NAME_WE)
  add_library(fuzz-source-${name} OBJECT ${source})
  target_compile_definitions(fuzz-source-${name} PRIVATE FUZZ_FRAME=NARU_FRAME_LEN32)
endforeach()

# Programs of the textbook, which know nothing of naru, for it to talk with.
file(GLOB plain_sources CONFIGURE_DEPENDS tests/plain/*.c)
foreach(source ${plain_sources})
  get_filename_component(name ${source} NAME_WE)
  add_executable(plain-${name} ${source})
endforeach()

# It counts the library's allocations: these functions of its own stand in for the allocator's.
target_link_options(test-conformance-memory PRIVATE
                    -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup)
# It steps through calls: the dynamic linker's search for each symbol is not among what it proves.
target_link_options(test-shm-kills PRIVATE -Wl,-z,now)
# It makes them fail, and counts what is not freed.
target_link_options(test-scarcity PRIVATE -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup
                    -Wl,--wrap=strndup,--wrap=asprintf,--wrap=free)

# Likewise one of them.
target_link_options(test-shm-accept PRIVATE -Wl,--wrap=calloc)

# Likewise, whatever calls of the kernel shared memory makes.
foreach(function malloc calloc strdup asprintf mmap madvise memfd_create ftruncate fallocate pwritev chmod fchmod mkdir socket
        socketpair bind listen connect accept4 sendmsg recvmsg send recv getsockopt pthread_create epoll_create1 epoll_ctl eventfd
        timerfd_create ppoll open fcntl)
  target_link_options(test-shm-faults PRIVATE -Wl,--wrap=${function})
endforeach()

# Likewise, of what an event loop is to watch.
target_link_options(test-shm-meeting-watch PRIVATE -Wl,--wrap=epoll_ctl)

# Parts of the command by themselves: the tour's two ends over a line of the test's own, its signal handlers, its JSON.
target_sources(test-tour-udp PRIVATE cli/tour-udp.c cli/tour-carry.c cli/sha256.c)
target_sources(test-interrupt PRIVATE cli/interrupt.c)
target_sources(test-json PRIVATE cli/json.c)

# The programs that settle what docs/mechanisms.md claims: the C library alone, run by test-claims.
file(GLOB claim_sources CONFIGURE_DEPENDS tests/claims/*.c)
set(claims "")
foreach(source ${claim_sources})
  get_filename_component(name ${source} NAME_WE)
  add_executable(claim-${name} ${source})
  set_target_properties(claim-${name} PROPERTIES OUTPUT_NAME ${name} RUNTIME_OUTPUT_DIRECTORY claims)
  add_dependencies(test-claims claim-${name})
  list(APPEND claims "\"${name}\"")
endforeach()
string(REPLACE ";" "," claims "${claims}")
target_compile_definitions(test-shm-format PRIVATE "NARU_SOURCE=\"${CMAKE_SOURCE_DIR}\"")
target_compile_definitions(test-claims PRIVATE "NARU_CLAIMS=${claims}" "NARU_SOURCE=\"${CMAKE_SOURCE_DIR}\"")

# What tests/run runs: these programs, and scripts that speak as the runner does (they get NARU_BUILD).
file(GLOB test_scripts CONFIGURE_DEPENDS tests/test-*.sh)
get_property(test_programs GLOBAL PROPERTY naru_tests)
set(test_list "")
foreach(program ${test_programs})
  string(APPEND test_list "$<TARGET_FILE:${program}>\n")
endforeach()
foreach(script ${test_scripts})
  string(APPEND test_list "${script}\n")
endforeach()
file(GENERATE OUTPUT ${CMAKE_BINARY_DIR}/tests.txt CONTENT "${test_list}")

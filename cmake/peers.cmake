# SPDX-License-Identifier: MIT
# naru-peers: the command again, linked with other libraries that are measured beside naru (`./dev bench peers`). It is
# not installed, and nothing else is linked with them. In place of one that is not here stands bench/peers/NAME-none.c,
# which says so in the tables.
include(CheckLanguage)
find_path(NNG_INCLUDE nng/protocol/pair0/pair.h)
find_library(NNG_LIBRARY nng)
find_path(ZMQ_INCLUDE zmq.h)
find_library(ZMQ_LIBRARY zmq)
find_path(BOOST_INCLUDE boost/interprocess/ipc/message_queue.hpp)
if(NOT CMAKE_CXX_COMPILER)
  unset(CMAKE_CXX_COMPILER CACHE) # it may have come since
endif()
check_language(CXX)
if(BOOST_INCLUDE AND CMAKE_CXX_COMPILER)
  enable_language(CXX)
  set(boost_source boost.cpp)
else()
  set(boost_source boost-none.c)
endif()

# peer(NAME): linked, or the stand-in.
function(peer name)
  string(TOUPPER ${name} NAME)
  if(${NAME}_INCLUDE AND ${NAME}_LIBRARY)
    target_sources(naru-peers PRIVATE bench/peers/${name}.c)
    set_property(SOURCE bench/peers/${name}.c PROPERTY INCLUDE_DIRECTORIES ${${NAME}_INCLUDE})
    target_link_libraries(naru-peers PRIVATE ${${NAME}_LIBRARY})
  else()
    target_sources(naru-peers PRIVATE bench/peers/${name}-none.c)
  endif()
endfunction()

add_executable(naru-peers bench/peers/comparisons.c bench/peers/${boost_source})
target_link_libraries(naru-peers PRIVATE naru-command)
set_property(TARGET naru-peers PROPERTY CXX_STANDARD 20) # designated initialisers, which C++ warns of and C does not
set_property(SOURCE bench/peers/boost.cpp PROPERTY COMPILE_OPTIONS -Wno-missing-field-initializers)
peer(nng)
peer(zmq)

# SPDX-License-Identifier: MIT
# What `cmake --install` puts where: libraries, headers, the command with its completions, manual pages, and what
# pkg-config and find_package(naru) need. All of it works from any prefix, also one chosen at install time.
include(CMakePackageConfigHelpers)
set(docs ${CMAKE_INSTALL_DATADIR}/doc/naru)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/naru)

set_target_properties(naru-static PROPERTIES EXPORT_NAME static)
install(TARGETS naru naru-static EXPORT naruTargets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/naru DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(FILES LICENSE README.md DESTINATION ${docs} OPTIONAL)

# find_package(naru): the targets naru::naru (shared) and naru::static.
install(EXPORT naruTargets NAMESPACE naru:: FILE naruConfig.cmake DESTINATION ${package})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/naruConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/naruConfigVersion.cmake DESTINATION ${package})

# pkg-config: the prefix is found from where naru.pc lies.
file(RELATIVE_PATH up /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/naru.pc.in naru.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/naru.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# The command, and what it says of itself to shells.
if(TARGET naru-cli)
  install(TARGETS naru-cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  foreach(shell bash zsh)
    add_custom_command(OUTPUT completion.${shell} DEPENDS naru-cli VERBATIM
                       COMMAND naru-cli completion ${shell} > completion.${shell})
  endforeach()
  add_custom_target(completions ALL DEPENDS completion.bash completion.zsh)
  install(FILES ${CMAKE_BINARY_DIR}/completion.bash RENAME naru
          DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
  install(FILES ${CMAKE_BINARY_DIR}/completion.zsh RENAME _naru
          DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
endif()

# man/NAME.SECTION.scd is a page; each further name in its NAME line becomes a page that points to it.
function(manual_page source)
  get_filename_component(page ${source} NAME_WLE)
  get_filename_component(name ${page} NAME_WE)
  get_filename_component(section ${page} LAST_EXT)
  string(SUBSTRING ${section} 1 -1 section)
  add_custom_command(OUTPUT man/${page} DEPENDS ${source} VERBATIM
                     COMMAND ${SCDOC} < ${source} > man/${page})
  set(pages ${CMAKE_BINARY_DIR}/man/${page})
  file(STRINGS ${source} names REGEX " - " LIMIT_COUNT 1)
  string(REGEX REPLACE " - .*" "" names "${names}")
  string(REGEX REPLACE "[*\\ ]" "" names "${names}") # bold marks and escapes of scdoc
  string(REPLACE "," ";" names "${names}")
  foreach(alias ${names})
    if(NOT alias STREQUAL name)
      file(CONFIGURE OUTPUT man/${alias}.${section} CONTENT ".so man${section}/${page}\n")
      list(APPEND pages ${CMAKE_BINARY_DIR}/man/${alias}.${section})
    endif()
  endforeach()
  install(FILES ${pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
  set_property(GLOBAL APPEND PROPERTY naru_pages ${CMAKE_BINARY_DIR}/man/${page})
endfunction()

find_program(SCDOC scdoc)
file(GLOB manual_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/man/*.scd)
if(SCDOC)
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/man)
  foreach(section 1 3 7) # `man -M build/release/man naru_borrow` looks there, and so do pages that point to another
    file(CREATE_LINK . ${CMAKE_BINARY_DIR}/man/man${section} SYMBOLIC)
  endforeach()
  foreach(source ${manual_sources})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source}) # its NAME line is read here
    manual_page(${source})
  endforeach()
  # A page for each verb, made from the table that its --help is made from.
  if(TARGET naru-cli)
    file(READ cli/verbs.c table)
    string(REGEX MATCHALL " VERB\\([a-z]+\\)" verbs "${table}")
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS cli/verbs.c)
    foreach(verb ${verbs})
      string(REGEX REPLACE " VERB.([a-z]+)." "\\1" verb "${verb}")
      add_custom_command(OUTPUT man/naru-${verb}.1 DEPENDS naru-cli VERBATIM
                         COMMAND sh -c "$<TARGET_FILE:naru-cli> help --man ${verb} | ${SCDOC} > man/naru-${verb}.1")
      install(FILES ${CMAKE_BINARY_DIR}/man/naru-${verb}.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
      set_property(GLOBAL APPEND PROPERTY naru_pages ${CMAKE_BINARY_DIR}/man/naru-${verb}.1)
    endforeach()
  endif()
  get_property(pages GLOBAL PROPERTY naru_pages)
  add_custom_target(manual ALL DEPENDS ${pages})
elseif(manual_sources)
  message(STATUS "scdoc is not here: no manual pages will be built or installed")
endif()

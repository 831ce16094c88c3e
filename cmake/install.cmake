# SPDX-License-Identifier: MIT
# What `cmake --install` puts where.
include(CMakePackageConfigHelpers)
install(TARGETS naru naru-static EXPORT naruTargets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/naru DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

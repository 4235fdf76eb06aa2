# cmake --install, and find_package(kinema) for programs that link the libraries.
include(CMakePackageConfigHelpers)
get_property(_modules GLOBAL PROPERTY KINEMA_MODULES)
install(TARGETS ${_modules} EXPORT kinemaTargets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/kinema)
install(EXPORT kinemaTargets NAMESPACE kinema:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/kinema)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/kinemaConfig.cmake.in
  ${PROJECT_BINARY_DIR}/kinemaConfig.cmake INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/kinema)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/kinemaConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/kinemaConfig.cmake ${PROJECT_BINARY_DIR}/kinemaConfigVersion.cmake
              ${PROJECT_SOURCE_DIR}/cmake/KinemaTorch.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/kinema)

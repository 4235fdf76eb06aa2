# Compiler settings that every target shares, so that one precompiled header fits all of them.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Release, Debug or RelWithDebInfo" FORCE)
endif()

find_program(KINEMA_CCACHE ccache)
if(KINEMA_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Precompiled headers are only cached with these sloppiness settings.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env "CCACHE_SLOPPINESS=pch_defines,time_macros" ${KINEMA_CCACHE})
endif()

add_library(kinema_options INTERFACE)
# nvcc knows none of these flags: they are for C++ alone, CUDA sources get their own below.
function(kinema_cxx_options)
  target_compile_options(kinema_options INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${ARGN}>")
endfunction()
kinema_cxx_options(
  -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion
  # No fused multiply-add behind our back: noise and resume must give the same bits everywhere.
  -ffp-contract=off)
target_compile_options(kinema_options INTERFACE
  "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-ffp-contract=off>")
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  kinema_cxx_options(-Wno-c99-designator)
  find_program(KINEMA_LLD NAMES ld.lld-19 ld.lld)
  if(KINEMA_LLD)
    target_link_options(kinema_options INTERFACE -fuse-ld=${KINEMA_LLD})
  endif()
endif()
if(KINEMA_WERROR)
  kinema_cxx_options(-Werror)
endif()
if(KINEMA_SANITIZE OR KINEMA_FUZZ)
  set(_kinema_sanitizers -fsanitize=address,undefined -fno-sanitize-recover=undefined
                         -fno-omit-frame-pointer)
  if(KINEMA_FUZZ)
    list(APPEND _kinema_sanitizers -fsanitize=fuzzer-no-link)
  endif()
  kinema_cxx_options(${_kinema_sanitizers})
  target_link_options(kinema_options INTERFACE ${_kinema_sanitizers})
endif()

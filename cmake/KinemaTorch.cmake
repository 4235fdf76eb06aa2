# LibTorch 2.11 as kinema::torch: two imported libraries, no CMake package of its own (that one wants a
# CUDA set-up as soon as nvcc is there). Used by the build and by the installed package. Searched in:
# KINEMA_TORCH_DIR (cache or environment), CMAKE_PREFIX_PATH, the folder that scripts/setup.sh fills.
find_package(Threads REQUIRED)
find_path(KINEMA_TORCH_INCLUDE torch/csrc/api/include/torch/torch.h
  HINTS "${KINEMA_TORCH_DIR}" "$ENV{KINEMA_TORCH_DIR}" ${CMAKE_PREFIX_PATH}
        "${CMAKE_CURRENT_LIST_DIR}/../.deps/site-packages/torch"
  PATH_SUFFIXES include NO_DEFAULT_PATH)
if(NOT KINEMA_TORCH_INCLUDE)
  message(FATAL_ERROR "LibTorch not found. Run scripts/setup.sh, or set KINEMA_TORCH_DIR to a folder "
                      "that holds include/ and lib/ of LibTorch 2.11")
endif()
get_filename_component(KINEMA_TORCH_ROOT "${KINEMA_TORCH_INCLUDE}" DIRECTORY)
file(STRINGS "${KINEMA_TORCH_INCLUDE}/torch/headeronly/version.h" _kinema_version_lines
     REGEX "#define TORCH_VERSION_(MAJOR|MINOR) ")
string(REGEX REPLACE "[^0-9]*([0-9]+)[^0-9]*;[^0-9]*([0-9]+).*" "\\1.\\2" KINEMA_TORCH_VERSION
                     "${_kinema_version_lines}")
if(NOT KINEMA_TORCH_VERSION VERSION_EQUAL 2.11)
  message(FATAL_ERROR "LibTorch in ${KINEMA_TORCH_ROOT} is version '${KINEMA_TORCH_VERSION}', expected 2.11")
endif()

foreach(_kinema_library c10 torch_cpu)
  add_library(kinema::torch_${_kinema_library} SHARED IMPORTED GLOBAL)
  set_target_properties(kinema::torch_${_kinema_library} PROPERTIES
    IMPORTED_LOCATION "${KINEMA_TORCH_ROOT}/lib/lib${_kinema_library}.so")
endforeach()
add_library(kinema::torch INTERFACE IMPORTED GLOBAL)
set_target_properties(kinema::torch PROPERTIES INTERFACE_INCLUDE_DIRECTORIES
  "${KINEMA_TORCH_ROOT}/include;${KINEMA_TORCH_ROOT}/include/torch/csrc/api/include")
target_link_libraries(kinema::torch INTERFACE kinema::torch_torch_cpu kinema::torch_c10 Threads::Threads)
# libtorch_cpu.so of the wheel needs libcudart, libcupti and its own libgomp; its RPATH finds them at run
# time, the linker has to be told.
file(GLOB _kinema_torch_lib_dirs "${KINEMA_TORCH_ROOT}/../nvidia/*/lib" "${KINEMA_TORCH_ROOT}/lib")
foreach(_kinema_dir IN LISTS _kinema_torch_lib_dirs)
  target_link_options(kinema::torch INTERFACE "LINKER:-rpath-link,${_kinema_dir}")
endforeach()

if(KINEMA_CUDA AND EXISTS "${KINEMA_TORCH_ROOT}/lib/libtorch_cuda.so")
  foreach(_kinema_library c10_cuda torch_cuda)
    add_library(kinema::torch_${_kinema_library} SHARED IMPORTED GLOBAL)
    set_target_properties(kinema::torch_${_kinema_library} PROPERTIES
      IMPORTED_LOCATION "${KINEMA_TORCH_ROOT}/lib/lib${_kinema_library}.so")
  endforeach()
  # libtorch_cuda registers its kernels when it is loaded; nothing refers to it by symbol.
  target_link_libraries(kinema::torch INTERFACE -Wl,--no-as-needed kinema::torch_torch_cuda
                                                kinema::torch_c10_cuda -Wl,--as-needed)
endif()

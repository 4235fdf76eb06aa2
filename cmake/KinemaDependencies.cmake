# Third parties. Nothing is downloaded at configure time: scripts/setup.sh installs what is missing.
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(fmt 9 REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)

# --- LibTorch 2.11 as two imported libraries. Searched in: KINEMA_TORCH_DIR (cache or environment),
#     CMAKE_PREFIX_PATH, then the folder that scripts/setup.sh fills.
find_path(KINEMA_TORCH_INCLUDE torch/csrc/api/include/torch/torch.h
  HINTS "${KINEMA_TORCH_DIR}" "$ENV{KINEMA_TORCH_DIR}" ${CMAKE_PREFIX_PATH}
        "${PROJECT_SOURCE_DIR}/.deps/site-packages/torch"
  PATH_SUFFIXES include NO_DEFAULT_PATH)
if(NOT KINEMA_TORCH_INCLUDE)
  message(FATAL_ERROR "LibTorch not found. Run scripts/setup.sh, or set KINEMA_TORCH_DIR to a folder "
                      "that holds include/ and lib/ of LibTorch 2.11")
endif()
get_filename_component(KINEMA_TORCH_ROOT "${KINEMA_TORCH_INCLUDE}" DIRECTORY)
file(STRINGS "${KINEMA_TORCH_INCLUDE}/torch/headeronly/version.h" _torch_version_lines
     REGEX "#define TORCH_VERSION_(MAJOR|MINOR) ")
string(REGEX REPLACE "[^0-9]*([0-9]+)[^0-9]*;[^0-9]*([0-9]+).*" "\\1.\\2" KINEMA_TORCH_VERSION
                     "${_torch_version_lines}")
if(NOT KINEMA_TORCH_VERSION VERSION_EQUAL 2.11)
  message(FATAL_ERROR "LibTorch in ${KINEMA_TORCH_ROOT} is version '${KINEMA_TORCH_VERSION}', expected 2.11")
endif()

add_library(kinema_c10 SHARED IMPORTED GLOBAL)
set_target_properties(kinema_c10 PROPERTIES IMPORTED_LOCATION "${KINEMA_TORCH_ROOT}/lib/libc10.so")
add_library(kinema_torch_cpu SHARED IMPORTED GLOBAL)
set_target_properties(kinema_torch_cpu PROPERTIES
  IMPORTED_LOCATION "${KINEMA_TORCH_ROOT}/lib/libtorch_cpu.so")
add_library(kinema_torch INTERFACE)
add_library(kinema::torch ALIAS kinema_torch)
target_include_directories(kinema_torch SYSTEM INTERFACE
  $<BUILD_INTERFACE:${KINEMA_TORCH_ROOT}/include>
  $<BUILD_INTERFACE:${KINEMA_TORCH_ROOT}/include/torch/csrc/api/include>)
target_link_libraries(kinema_torch INTERFACE
  $<BUILD_INTERFACE:kinema_torch_cpu> $<BUILD_INTERFACE:kinema_c10> Threads::Threads)
# libtorch_cpu.so of the wheel needs libcudart and libcupti; its own RPATH finds them at run time.
file(GLOB _kinema_torch_cuda_libs "${KINEMA_TORCH_ROOT}/../nvidia/*/lib")
foreach(dir IN LISTS _kinema_torch_cuda_libs)
  target_link_options(kinema_torch INTERFACE $<BUILD_INTERFACE:-Wl,-rpath-link,${dir}>)
endforeach()
# The wheel's own libgomp lies beside libtorch_cpu.so and is found through its RPATH.
target_link_options(kinema_torch INTERFACE $<BUILD_INTERFACE:-Wl,-rpath-link,${KINEMA_TORCH_ROOT}/lib>)

if(KINEMA_CUDA)
  # Without a card `native` cannot be asked for; sm_90 and PTX cover Hopper and what comes after.
  set(CMAKE_CUDA_ARCHITECTURES "90-real;90-virtual" CACHE STRING "")
  set(CMAKE_CUDA_STANDARD 17)
  find_program(CMAKE_CUDA_HOST_COMPILER NAMES g++-12 g++)
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
  if(EXISTS "${KINEMA_TORCH_ROOT}/lib/libtorch_cuda.so")
    add_library(kinema_torch_cuda SHARED IMPORTED GLOBAL)
    set_target_properties(kinema_torch_cuda PROPERTIES
      IMPORTED_LOCATION "${KINEMA_TORCH_ROOT}/lib/libtorch_cuda.so")
    add_library(kinema_c10_cuda SHARED IMPORTED GLOBAL)
    set_target_properties(kinema_c10_cuda PROPERTIES
      IMPORTED_LOCATION "${KINEMA_TORCH_ROOT}/lib/libc10_cuda.so")
    # libtorch_cuda registers its kernels when it is loaded; nothing refers to it by symbol.
    target_link_libraries(kinema_torch INTERFACE
      $<BUILD_INTERFACE:-Wl,--no-as-needed> $<BUILD_INTERFACE:kinema_torch_cuda>
      $<BUILD_INTERFACE:kinema_c10_cuda> $<BUILD_INTERFACE:-Wl,--as-needed>)
  endif()
endif()

if(KINEMA_MEDIA)
  pkg_check_modules(FFMPEG REQUIRED IMPORTED_TARGET libavformat>=59 libavcodec>=59 libavutil>=57
                    libswscale>=6 libavfilter>=8)
endif()

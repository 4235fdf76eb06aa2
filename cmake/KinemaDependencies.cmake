# Third parties. Nothing is downloaded at configure time: scripts/setup.sh installs what is missing.
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(fmt 9 REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
pkg_check_modules(LIBARCHIVE REQUIRED IMPORTED_TARGET libarchive>=3.4)

if(KINEMA_CUDA)
  # Without a card `native` cannot be asked for; sm_90 and PTX cover Hopper and what comes after.
  set(CMAKE_CUDA_ARCHITECTURES "90-real;90-virtual" CACHE STRING "")
  find_program(CMAKE_CUDA_HOST_COMPILER NAMES g++-12 g++)
  enable_language(CUDA)
  # CMake 3.25 does not know yet how nvcc spells C++20.
  foreach(_kind STANDARD EXTENSION)
    if(NOT CMAKE_CUDA20_${_kind}_COMPILE_OPTION)
      set(CMAKE_CUDA20_${_kind}_COMPILE_OPTION "-std=c++20")
    endif()
  endforeach()
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  # The runtime is linked by name where it is needed: programs are linked by the C++ compiler, which
  # does not know nvcc's library folder.
  set(CMAKE_CUDA_RUNTIME_LIBRARY None)
  find_package(CUDAToolkit REQUIRED)
endif()
include(KinemaTorch)

if(KINEMA_MEDIA)
  pkg_check_modules(FFMPEG REQUIRED IMPORTED_TARGET libavformat>=59 libavcodec>=59 libavutil>=57
                    libswscale>=6 libavfilter>=8)
endif()

// SPDX-License-Identifier: Apache-2.0
// The one exception type of kinema and its checks.
//
// A message reads "[place] subject: expected X, got Y; hint". `code` is a stable word for programs
// (for example "safetensors.overlap"); the kind decides the exit code of the command line.
//
//   throw Error(ErrorKind::kBadCheckpoint,
//               {.code = "safetensors.header_too_large", .place = "io.safetensors",
//                .subject = "a.safetensors", .expected = "a header of at most 100 MB",
//                .got = "9.1 GB", .hint = "the file is damaged or not a safetensors file"});
#pragma once

#include <exception>
#include <source_location>
#include <string>
#include <string_view>

namespace kinema {

enum class ErrorKind {
  kInternal,         ///< our own bug                                              exit 1
  kInvalidArgument,  ///< a flag, value or size that the caller chose              exit 2
  kBadConfig,        ///< a run configuration file that is malformed or unknown    exit 2
  kOutput,           ///< an output location that cannot be written                exit 2
  kUnsupported,      ///< this build or device cannot do what was asked            exit 2
  kShapeMismatch,    ///< tensors that do not fit each other                       exit 3
  kBadCheckpoint,    ///< model files (weights, config, tokenizer) that do not fit exit 3
  kBadData,          ///< an input file that is malformed                          exit 3
  kIo,               ///< an input that is missing or cannot be read               exit 3
  kOutOfMemory,      ///< memory ran out                                           exit 4
  kDiskFull,         ///< the disk or quota ran out                                exit 4
  kCancelled,        ///< stopped on request; the work can be resumed              exit 130
};

/// Exit code of the command line for an error of this kind (0 is success, never returned).
[[nodiscard]] int exit_code(ErrorKind kind) noexcept;

/// Short name of the kind, for example "bad_checkpoint".
[[nodiscard]] std::string_view to_string(ErrorKind kind) noexcept;

/// What an error says; every field but `code`, `place` and `subject` may stay empty.
struct ErrorDetails {
  std::string code{};      ///< stable word for programs, "area.problem"
  std::string place{};     ///< where in kinema, "io.safetensors"
  std::string subject{};   ///< the file, flag or tensor it is about, or the whole sentence
  std::string expected{};  ///< what would have been right
  std::string got{};       ///< what came
  std::string hint{};      ///< what the user can do
};

class Error final : public std::exception {
 public:
  Error(ErrorKind kind,
        ErrorDetails details,
        std::source_location where = std::source_location::current());

  [[nodiscard]] const char* what() const noexcept override { return message_.c_str(); }
  [[nodiscard]] ErrorKind kind() const noexcept { return kind_; }
  [[nodiscard]] const std::string& code() const noexcept { return details_.code; }
  [[nodiscard]] const ErrorDetails& details() const noexcept { return details_; }
  [[nodiscard]] const std::source_location& where() const noexcept { return where_; }
  [[nodiscard]] int exit_code() const noexcept { return kinema::exit_code(kind_); }

 private:
  ErrorKind kind_;
  ErrorDetails details_;
  std::source_location where_;
  std::string message_;
};

/// Error of a failed system call: kOutOfMemory for ENOMEM, kDiskFull for ENOSPC and EDQUOT,
/// otherwise `fallback`. `error_number` is errno; its text becomes `got`.
[[nodiscard]] Error system_error(ErrorKind fallback,
                                 int error_number,
                                 ErrorDetails details,
                                 std::source_location where = std::source_location::current());

namespace internal {
[[noreturn]] void dcheck_failed(const char* condition, const char* file, int line) noexcept;
}  // namespace internal

}  // namespace kinema

/// Our own invariant: aborts in builds without NDEBUG, vanishes in release builds. Never for input.
#ifdef NDEBUG
#define KINEMA_DCHECK(condition) static_cast<void>(0)
#else
#define KINEMA_DCHECK(condition)      \
  ((condition) ? static_cast<void>(0) \
               : ::kinema::internal::dcheck_failed(#condition, __FILE__, __LINE__))
#endif

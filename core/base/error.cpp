// SPDX-License-Identifier: Apache-2.0
#include "core/base/error.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <system_error>
#include <utility>

namespace kinema {
namespace {

std::string compose(const ErrorDetails& details) {
  std::string text = "[" + details.place + "] " + details.subject;
  if (!details.expected.empty()) {
    text += ": expected " + details.expected;
  }
  if (!details.got.empty()) {
    text += (details.expected.empty() ? ": " : ", got ") + details.got;
  }
  if (!details.hint.empty()) {
    text += "; " + details.hint;
  }
  return text;
}

}  // namespace

int exit_code(ErrorKind kind) noexcept {
  switch (kind) {
    case ErrorKind::kInternal:
      return 1;
    case ErrorKind::kInvalidArgument:
    case ErrorKind::kBadConfig:
    case ErrorKind::kOutput:
    case ErrorKind::kUnsupported:
      return 2;
    case ErrorKind::kShapeMismatch:
    case ErrorKind::kBadCheckpoint:
    case ErrorKind::kBadData:
    case ErrorKind::kIo:
      return 3;
    case ErrorKind::kOutOfMemory:
    case ErrorKind::kDiskFull:
      return 4;
    case ErrorKind::kCancelled:
      return 130;
  }
  return 1;
}

std::string_view to_string(ErrorKind kind) noexcept {
  switch (kind) {
    case ErrorKind::kInternal:
      return "internal";
    case ErrorKind::kInvalidArgument:
      return "invalid_argument";
    case ErrorKind::kBadConfig:
      return "bad_config";
    case ErrorKind::kOutput:
      return "output";
    case ErrorKind::kUnsupported:
      return "unsupported";
    case ErrorKind::kShapeMismatch:
      return "shape_mismatch";
    case ErrorKind::kBadCheckpoint:
      return "bad_checkpoint";
    case ErrorKind::kBadData:
      return "bad_data";
    case ErrorKind::kIo:
      return "io";
    case ErrorKind::kOutOfMemory:
      return "out_of_memory";
    case ErrorKind::kDiskFull:
      return "disk_full";
    case ErrorKind::kCancelled:
      return "cancelled";
  }
  return "internal";
}

Error::Error(ErrorKind kind, ErrorDetails details, std::source_location where)
    : kind_(kind), details_(std::move(details)), where_(where), message_(compose(details_)) {}

Error system_error(ErrorKind fallback,
                   int error_number,
                   ErrorDetails details,
                   std::source_location where) {
  ErrorKind kind = fallback;
  if (error_number == ENOMEM) {
    kind = ErrorKind::kOutOfMemory;
  } else if (error_number == ENOSPC || error_number == EDQUOT) {
    kind = ErrorKind::kDiskFull;
  }
  if (details.got.empty()) {
    details.got = std::generic_category().message(error_number);
  }
  return Error(kind, std::move(details), where);
}

namespace internal {

void dcheck_failed(const char* condition, const char* file, int line) noexcept {
  std::fprintf(stderr, "%s:%d: internal check failed: %s\n", file, line, condition);
  std::abort();
}

}  // namespace internal
}  // namespace kinema

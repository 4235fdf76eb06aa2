// SPDX-License-Identifier: Apache-2.0
// A text (our provenance, JSON) as one property of an XMP packet (ISO 16684-1), and back, exactly.
//
// XML cannot hold most control characters, not even escaped. A text that has one is written in the
// escapes of a JSON string and marked so; any other text, JSON among them, stays readable as it is.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace kinema::io {

/// Namespace of the property "provenance".
inline constexpr std::string_view kXmpNamespace = "urn:kinema:xmp:1.0";

/// Throws kInvalidArgument [xmp.utf8] when `text` is not UTF-8.
[[nodiscard]] std::string wrap_xmp(std::string_view text);

/// The text again, also when a tool rewrote the packet with the property as an attribute. Nothing
/// when the packet has no such property. `subject` names the file in messages. Throws kBadData
/// xmp.{truncated, escape, utf8}.
[[nodiscard]] std::optional<std::string> unwrap_xmp(std::string_view packet,
                                                    std::string_view subject);

}  // namespace kinema::io

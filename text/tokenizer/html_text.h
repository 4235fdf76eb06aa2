// SPDX-License-Identifier: Apache-2.0
// The text of an HTML fragment, as Python's html.parser (3.11) with Beautiful Soup's tree gives it,
// and HTML character references, as html.unescape resolves them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace kinema::text {

/// Text outside tags. Leaves out comments, declarations, and what stands in script, style,
/// template, rt and rp. Malformed markup stays as text. Valid UTF-8 in and out.
[[nodiscard]] std::string html_text(std::string_view html);

/// Replaces named and numeric character references by what they stand for.
[[nodiscard]] std::string html_unescape(std::string_view text);

/// Text of a named reference ("amp"); `without_semicolon`: only names that need none.
[[nodiscard]] std::optional<std::string_view> html_entity(std::string_view name,
                                                          bool without_semicolon);

}  // namespace kinema::text

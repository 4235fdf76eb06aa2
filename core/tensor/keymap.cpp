// SPDX-License-Identifier: Apache-2.0
#include "core/tensor/keymap.h"

#include <utility>

#include "core/base/error.h"

namespace kinema::tensor {
namespace {

constexpr std::string_view kNumber = "{}";

struct Match {
  std::vector<std::string_view> numbers;
  std::string_view rest;
};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

std::optional<Match> match(std::string_view pattern, std::string_view key) {
  Match found;
  while (!pattern.empty()) {
    if (pattern == "*") {
      found.rest = key;
      return found;
    }
    if (pattern.starts_with(kNumber)) {
      std::size_t length = 0;
      while (length < key.size() && is_digit(key[length])) {
        ++length;
      }
      if (length == 0) {
        return std::nullopt;
      }
      found.numbers.push_back(key.substr(0, length));
      key.remove_prefix(length);
      pattern.remove_prefix(kNumber.size());
      continue;
    }
    if (key.empty() || key.front() != pattern.front()) {
      return std::nullopt;
    }
    key.remove_prefix(1);
    pattern.remove_prefix(1);
  }
  return key.empty() ? std::optional(found) : std::nullopt;
}

std::string substitute(std::string_view to, const Match& found) {
  std::string name;
  std::size_t next_number = 0;
  while (!to.empty()) {
    if (to == "*") {
      name += found.rest;
      break;
    }
    if (to.starts_with(kNumber)) {
      name += found.numbers[next_number++];
      to.remove_prefix(kNumber.size());
      continue;
    }
    name += to.front();
    to.remove_prefix(1);
  }
  return name;
}

std::size_t count_numbers(std::string_view pattern) {
  std::size_t count = 0;
  for (std::size_t at = pattern.find(kNumber); at != std::string_view::npos;
       at = pattern.find(kNumber, at + kNumber.size())) {
    ++count;
  }
  return count;
}

}  // namespace

KeyMap::KeyMap(std::initializer_list<Rule> rules) {
  for (const Rule& rule : rules) {
    add(rule);
  }
}

KeyMap::Rule KeyMap::rename(std::string from, std::string to) {
  return {Action::kRename, std::move(from), std::move(to)};
}

KeyMap::Rule KeyMap::alias(std::string from, std::string to) {
  return {Action::kAlias, std::move(from), std::move(to)};
}

KeyMap::Rule KeyMap::ignore(std::string pattern) {
  return {Action::kIgnore, std::move(pattern), {}};
}

void KeyMap::add(Rule rule) {
  const bool rest_without_source = rule.to.ends_with('*') && !rule.from.ends_with('*');
  if (count_numbers(rule.to) > count_numbers(rule.from) || rest_without_source) {
    throw Error(ErrorKind::kInternal,
                {.code = "keymap.rule",
                 .place = "tensor.keymap",
                 .subject = rule.from + " -> " + rule.to,
                 .expected = "no more {} and * on the right than on the left"});
  }
  rules_.push_back(std::move(rule));
}

KeyMap::Mapped KeyMap::map(std::string_view key) const {
  for (const Rule& rule : rules_) {
    if (const auto found = match(rule.from, key)) {
      return {rule.action,
              rule.action == Action::kIgnore ? std::string(key) : substitute(rule.to, *found)};
    }
  }
  return {Action::kKeep, std::string(key)};
}

}  // namespace kinema::tensor

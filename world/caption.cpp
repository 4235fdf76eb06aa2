// SPDX-License-Identifier: Apache-2.0
#include "world/caption.h"

#include <set>
#include <sstream>

#include "world/random.h"

namespace kinema::world {
namespace {

using Words = std::vector<std::string>;

constexpr double kDropSize = 0.08;
constexpr int kNumGrammars = 8;

const Words& size_words(Size size) {
  static const std::array<Words, 3> kWords = {Words{"small", "tiny", "little"},
                                              Words{"medium", "medium-sized"},
                                              Words{"big", "large", "huge"}};
  return kWords[static_cast<std::size_t>(size)];
}

struct Verb {
  std::string finite;  ///< "moves left"
  std::string gerund;  ///< "moving left"
};

const std::vector<Verb>& verbs(Motion motion) {
  static const std::array<std::vector<Verb>, 14> kVerbs = {{
      {{"stays still", "staying still"}, {"does not move", "not moving"}, {"rests", "resting"}},
      {{"moves left", "moving left"},
       {"moves to the left", "moving to the left"},
       {"slides left", "sliding left"}},
      {{"moves right", "moving right"},
       {"moves to the right", "moving to the right"},
       {"slides right", "sliding right"}},
      {{"moves up", "moving up"}, {"rises", "rising"}, {"goes up", "going up"}},
      {{"moves down", "moving down"}, {"falls", "falling"}, {"goes down", "going down"}},
      {{"moves up and left", "moving up and left"},
       {"moves diagonally up left", "moving diagonally up left"}},
      {{"moves up and right", "moving up and right"},
       {"moves diagonally up right", "moving diagonally up right"}},
      {{"moves down and left", "moving down and left"},
       {"moves diagonally down left", "moving diagonally down left"}},
      {{"moves down and right", "moving down and right"},
       {"moves diagonally down right", "moving diagonally down right"}},
      {{"moves in a circle", "moving in a circle"}, {"circles around", "circling around"}},
      {{"bounces", "bouncing"},
       {"bounces up and down", "bouncing up and down"},
       {"hops", "hopping"}},
      {{"grows", "growing"}, {"gets bigger", "getting bigger"}, {"expands", "expanding"}},
      {{"shrinks", "shrinking"}, {"gets smaller", "getting smaller"}, {"contracts", "contracting"}},
      {{"spins", "spinning"}, {"rotates", "rotating"}, {"turns around", "turning around"}},
  }};
  return kVerbs[static_cast<std::size_t>(motion)];
}

const Words& over_words() {
  static const Words kWords = {"over", "on", "in front of"};
  return kWords;
}

// With the colour for "%".
const Words& background_phrases(Background background) {
  static const std::array<Words, 4> kPhrases = {
      {{"% background", "plain % background"},
       {"% gradient background", "% gradient"},
       {"striped % background", "% background with stripes"},
       {"checkered % background", "% checkerboard background"}}};
  return kPhrases[static_cast<std::size_t>(background)];
}

std::string with_article(const std::string& phrase) {
  const bool vowel = std::string_view("aeiou").find(phrase.front()) != std::string_view::npos;
  return (vowel ? "an " : "a ") + phrase;
}

// Draws synonyms; the plain caption takes the first of everything.
class Chooser {
 public:
  explicit Chooser(Random* random, bool name_sizes = true)
      : random_(random), name_sizes_(name_sizes) {}
  template <typename T>
  const T& one_of(const std::vector<T>& options) {
    return options[random_ == nullptr ? 0
                                      : static_cast<std::size_t>(random_->below(
                                            static_cast<std::int64_t>(options.size())))];
  }
  bool drops_size() { return random_ != nullptr && random_->chance(kDropSize) && !name_sizes_; }

 private:
  Random* random_;
  bool name_sizes_;
};

std::string object_phrase(const Object& object, Chooser& choose) {
  std::string phrase;
  if (!choose.drops_size()) {
    phrase = choose.one_of(size_words(object.size)) + " ";
  }
  phrase += std::string(kColourNames[static_cast<std::size_t>(object.colour)]) + " " +
            std::string(kShapeNames[static_cast<std::size_t>(object.shape)]);
  return with_article(phrase);
}

std::string background_phrase(const Scene& scene, Chooser& choose) {
  std::string phrase = choose.one_of(background_phrases(scene.background));
  phrase.replace(
      phrase.find('%'), 1, kColourNames[static_cast<std::size_t>(scene.background_colour)]);
  return with_article(phrase);
}

// "X moves left", "X moves left and Y spins", "X ..., Y ... and Z ...".
std::string clauses(const Scene& scene, Chooser& choose, const std::string& link, bool gerund) {
  std::string text;
  for (std::size_t i = 0; i < scene.objects.size(); ++i) {
    const Object& object = scene.objects[i];
    text += i == 0 ? "" : i + 1 == scene.objects.size() ? " and " : ", ";
    const std::string phrase = object_phrase(object, choose);
    const Verb& verb = choose.one_of(verbs(object.motion));
    text += phrase + " " + link + (gerund ? verb.gerund : verb.finite);
  }
  return text;
}

std::string sentence(const Scene& scene, int grammar, Chooser& choose) {
  const std::string background = background_phrase(scene, choose);
  const std::string& over = choose.one_of(over_words());
  switch (grammar) {
    case 1:
      return over + " " + background + ", " + clauses(scene, choose, "", false);
    case 2:
      return background + " with " + clauses(scene, choose, "that ", false);
    case 3:
      return clauses(scene, choose, "", true) + " " + over + " " + background;
    case 4:
      return "there is " + clauses(scene, choose, "that ", false) + ". behind is " + background;
    case 5:
      return "the scene has " + background + ". " + clauses(scene, choose, "", false);
    case 6:
      return "a video of " + clauses(scene, choose, "that ", false) + " " + over + " " + background;
    case 7:
      return clauses(scene, choose, "", true) + ", " + background;
    default:
      return clauses(scene, choose, "", false) + " " + over + " " + background;
  }
}

void add_words(const std::string& text, std::set<std::string>& words) {
  std::string clean;
  for (const char c : text) {
    clean += c == '%' || c == '.' || c == ',' ? ' ' : c;
  }
  std::istringstream stream(clean);
  std::string word;
  while (stream >> word) {
    words.insert(word);
  }
}

}  // namespace

std::string caption(const Scene& scene, std::int64_t variant, bool name_sizes) {
  Random random(
      scene.seed,
      "world/caption",
      (static_cast<std::uint64_t>(scene.index) << 16U) + static_cast<std::uint64_t>(variant));
  Chooser choose(&random, name_sizes);
  const int grammar = static_cast<int>(random.below(kNumGrammars));
  return sentence(scene, grammar, choose);
}

std::string plain_caption(const Scene& scene) {
  Chooser first(nullptr);
  return sentence(scene, 0, first);
}

std::vector<std::string> caption_words() {
  std::set<std::string> words;
  for (std::size_t i = 0; i < 3; ++i) {
    for (const auto& word : size_words(static_cast<Size>(i))) {
      add_words(word, words);
    }
  }
  for (std::size_t i = 0; i < kMotionNames.size(); ++i) {
    for (const auto& verb : verbs(static_cast<Motion>(i))) {
      add_words(verb.finite + " " + verb.gerund, words);
    }
  }
  for (std::size_t i = 0; i < kBackgroundNames.size(); ++i) {
    for (const auto& phrase : background_phrases(static_cast<Background>(i))) {
      add_words(phrase, words);
    }
  }
  for (const auto& name : kShapeNames) {
    words.insert(std::string(name));
  }
  for (const auto& name : kColourNames) {
    words.insert(std::string(name));
  }
  add_words("a an and that with over on in front of there is behind the scene has a video of",
            words);
  return {words.begin(), words.end()};
}

}  // namespace kinema::world

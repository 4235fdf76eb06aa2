kinema_test(tokenizer_test
  SOURCES tokenizer_golden_test.cpp
  DEPS kinema::tokenizer nlohmann_json::nlohmann_json)

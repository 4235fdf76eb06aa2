kinema_test(tokenizer_test
  SOURCES prompt_cleaning_test.cpp regex_errors_test.cpp sentencepiece_errors_test.cpp
          tokenizer_files_errors_test.cpp tokenizer_golden_test.cpp tokenizer_json_errors_test.cpp
          tokenizer_reference_test.cpp tokenizer_test.cpp
  DEPS kinema::tokenizer nlohmann_json::nlohmann_json)

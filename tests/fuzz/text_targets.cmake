# Files of tokenizers and prompts.
foreach(target prompt_cleaning tokenizer tokenizer_regex)
  kinema_fuzz(${target} fuzz_${target}.cpp kinema::tokenizer)
endforeach()

# Parsers of core/base and core/io.
foreach(target config_json image_header index mp4 safetensors)
  kinema_fuzz(${target} fuzz_${target}.cpp kinema::io)
endforeach()

kinema_test(text_model_test TORCH
  SOURCES clip_text_test.cpp t5_encoder_test.cpp
  DEPS kinema::text)

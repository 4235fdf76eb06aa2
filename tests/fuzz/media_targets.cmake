# The video reader; needs FFmpeg.
if(KINEMA_MEDIA)
  kinema_fuzz(video_reader fuzz_video_reader.cpp kinema::media)
endif()

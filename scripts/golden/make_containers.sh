#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Writes the tiny media files in tests/io/data with the ffmpeg command: 32 x 16 pixels, 5 frames at
# 10 frames a second, with a comment. Made with FFmpeg 5.1.
#
# usage: make_containers.sh [FOLDER]      (default: tests/io/data of this repository)
set -euo pipefail
if [[ "${1:-}" == "-h" || "${1:-}" == "--help" ]]; then
  sed -n '3,6s/^# \{0,1\}//p' "$0"
  exit 0
fi
folder="${1:-$(cd "$(dirname "$0")/../.." && pwd)/tests/io/data}"
comment='{"prompt":"a cat <é> & \"視\"","seed":7}'
make() {  # make NAME OPTION...
  local name="$1"
  shift
  ffmpeg -loglevel error -y -f lavfi -i "color=c=0x306090:s=32x16:r=10:d=0.5" -fflags +bitexact \
    -flags:v +bitexact -pix_fmt yuv420p "$@" "$folder/$name"
}
make comment.mp4 -c:v libx264 -preset ultrafast -metadata "comment=$comment"
make faststart.mp4 -c:v mpeg4 -movflags +faststart -metadata "comment=$comment"
make keys.mp4 -c:v mpeg4 -movflags +use_metadata_tags -metadata "comment=$comment"
make fragmented.mp4 -c:v mpeg4 -movflags +frag_keyframe+empty_moov -metadata "comment=$comment"
make no_comment.mp4 -c:v mpeg4
make comment.mov -c:v mpeg4 -metadata "comment=$comment"
make comment.mkv -c:v mpeg4 -metadata "comment=$comment" -metadata:s:v "comment=of the track"
make comment.webm -c:v libvpx -metadata "comment=$comment"
make live.mkv -c:v mpeg4 -f matroska -live 1 -metadata "comment=$comment"
make plain.y4m -strict -1

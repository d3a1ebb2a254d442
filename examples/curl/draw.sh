#!/usr/bin/env bash
# Draws with nothing but curl: one call that waits for the picture, then one that watches it being drawn.
#   ./draw.sh "a red apple on a blue background" apple.png
set -euo pipefail

prompt=${1:-a red apple on a blue background}
file=${2:-picture.png}
server=${SCUMBLE_URL:-http://127.0.0.1:8600}
body=$(printf '{"prompt": "%s", "steps": 20, "response_format": "url"}' "${prompt//\"/\\\"}")

# `Prefer: wait` holds the answer until the job has ended; the answer is then the job, its pictures by URL.
job=$(curl --fail-with-body --silent --show-error "$server/v1/jobs" \
  --header 'Content-Type: application/json' --header 'Prefer: wait=60' --data "$body")
picture=$(grep --only-matching '"url":"[^"]*"' <<<"$job" | head --lines 1 | cut --delimiter '"' --fields 4)
curl --fail --silent --show-error --output "$file" "$server$picture"
echo "drew $file"

# Without it the answer comes at once, and the job's events can be watched as they happen.
id=$(curl --fail-with-body --silent --show-error "$server/v1/jobs" \
  --header 'Content-Type: application/json' --data "$body" |
  grep --only-matching '"job_id":"[^"]*"' | head --lines 1 | cut --delimiter '"' --fields 4)
curl --fail --silent --show-error --no-buffer "$server/v1/jobs/$id/stream"

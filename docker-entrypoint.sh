#!/bin/sh
# Runs one switchwise command as the container's main process, so that it gets SIGTERM itself.
# `serve` migrates first: under an advisory lock, so that replicas may start together.
set -eu
if [ "${1:-serve}" = "serve" ]; then
  python -m app db upgrade
fi
exec python -m app "$@"

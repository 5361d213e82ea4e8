#!/bin/sh
# Reads the addresses from files of secrets, where such are named, and becomes the command.
set -eu
if [ -n "${DATABASE_URL_FILE:-}" ]; then
  DATABASE_URL=$(cat "$DATABASE_URL_FILE")
  export DATABASE_URL
fi
if [ -n "${REDIS_URL_FILE:-}" ]; then
  REDIS_URL=$(cat "$REDIS_URL_FILE")
  export REDIS_URL
fi
exec "$@"

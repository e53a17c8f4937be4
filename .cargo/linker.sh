#!/bin/sh
# The linker cargo calls: the machine's own C compiler, or how to get one.
if ! command -v cc >/dev/null 2>&1; then
    cat >&2 <<'MESSAGE'
EEveon needs a C compiler to build, and this machine has none called `cc`. Install one:
  Debian, Ubuntu   apt-get install gcc libc6-dev
  Fedora, RHEL     dnf install gcc
  Arch             pacman -S gcc
  Alpine           apk add build-base
MESSAGE
    exit 1
fi
exec cc "$@"

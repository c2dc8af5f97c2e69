#!/usr/bin/env bash
# Makes a Debian image with Python, from the mirror that this machine's apt uses: for tests where no registry can be reached.
# Usage: base_image.sh NAME[:TAG]. Does nothing if the image is there. Needs root, debootstrap and a Docker engine.
set -euo pipefail
image=$1 suite=bookworm
docker image inspect "$image" >/dev/null 2>&1 && exit 0

mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
  awk -v suite="$suite" '$2 == suite && $3 == "main" {print $1; exit}')
eval "$(apt-config shell proxy Acquire::http::Proxy)"
[[ -z ${proxy:-} ]] || export http_proxy=$proxy

root=$(mktemp --directory)
trap 'rm --recursive --force "$root"' EXIT
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates "$suite" "$root" "${mirror:-http://deb.debian.org/debian}" >&2
ln --symbolic python3 "$root/usr/bin/python"
rm --recursive --force "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,info,locale,man}/*
tar --create --directory "$root" --exclude=./dev --exclude=./proc --exclude=./sys . | docker import --change 'CMD ["python3"]' - "$image" >/dev/null

#!/bin/sh
# Deploys with plain git and shell, doing the work itself and nothing else: no record, no check, no flush.
# floor.sh links|checkout deploy|rollback PLACE ORIGIN
set -eu
how=$1 what=$2 place=$3 origin=$4
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1

newest() { ls "$place/releases" | sort -n | tail -n 1; }
turn() {
    ln -sfn "releases/$1" "$place/current.new"
    mv -T "$place/current.new" "$place/current"
}
git_here() { git --git-dir="$place/mirror.git" "$@"; }

if [ "$what" = rollback ]; then
    live=$(basename "$(readlink "$place/current")")
    turn "$(ls "$place/releases" | sort -n | awk -v live="$live" '$1 < live' | tail -n 1)"
    exit
fi

mkdir -p "$place/releases"
if [ -d "$place/mirror.git" ]; then
    git_here fetch --quiet "file://$origin" +refs/heads/main:refs/heads/main
else
    git clone --quiet --bare --single-branch --branch main "file://$origin" "$place/mirror.git"
fi
commit=$(git_here rev-parse main)
old=$(newest)
new=$(( ${old:-0} + 1 ))
release=$place/releases/$new
export GIT_INDEX_FILE="$place/index"
rm -f "$GIT_INDEX_FILE"
git_here read-tree main
if [ "$how" = links ] && [ -n "$old" ]; then
    before=$(cat "$place/commit-$old")
    cp -al "$place/releases/$old" "$release"
    git_here diff --no-renames --name-only -z "$before" "$commit" | (cd "$release" && xargs -0 -r rm -f)
    git_here diff --no-renames --diff-filter=d --name-only -z "$before" "$commit" |
        git --git-dir="$place/mirror.git" --work-tree="$release" -c core.bare=false \
            checkout-index --quiet -z --stdin --prefix="$release/"
else
    mkdir "$release"
    git --git-dir="$place/mirror.git" --work-tree="$release" -c core.bare=false \
        checkout-index --all --quiet --prefix="$release/"
fi
echo "$commit" >"$place/commit-$new"
turn "$new"

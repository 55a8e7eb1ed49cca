#!/usr/bin/env bash
# Fetches the paper's four public checkpoints and checks them. Usage: bash scripts/download_weights.sh [FOLDER] [NAME …]
#   FOLDER  where they go; default: the repository's ckpt
#   NAME    which of them; default: all four, 2.3 GB, minutes on a fast network:
#           ViT-B_16-224.npz ViT-B_32.npz ViT-L_32.npz mae_finetuned_vit_base.pth
# A file arrives as NAME.part and is renamed once its size, and the MAE file's md5, are right. The same command resumes
# after an interruption and keeps what is complete. At the end scripts/check.py loads each file in .venv (set up
# first if need be) and compares its number of parameters with the published one.
# Environment: VIT_URL and MAE_URL, the folders to fetch from, for a mirror; SKIP_CHECK=1 leaves out the loading.
# Exit codes: 0 done; 2 wrong size, checksum or count, no such file, or no network; 4 disk full; 130 interrupted.
set -euo pipefail

VIT_URL=${VIT_URL:-https://storage.googleapis.com/vit_models/imagenet21k+imagenet2012}
MAE_URL=${MAE_URL:-https://dl.fbaipublicfiles.com/mae/finetune}
MAE_MD5=1b25e9 # all that is published of it
NAMES="ViT-B_16-224.npz ViT-B_32.npz ViT-L_32.npz mae_finetuned_vit_base.pth"

fail() { # MESSAGE [EXIT_CODE]
    echo "download_weights.sh: $1" >&2
    exit "${2:-2}"
}

is_name() { [[ " $NAMES " == *" $1 "* ]]; }

bytes() { # of a file, 0 where there is none
    if [ -e "$1" ]; then wc -c < "$1" | tr -d ' '; else echo 0; fi
}

md5() {
    if command -v md5sum > /dev/null; then md5sum < "$1" | cut -d ' ' -f 1; else command md5 -q "$1"; fi
}

remote_bytes() { # URL: the Content-Length of what it leads to
    local answer size
    answer=$(curl --silent --show-error --fail --location --head --connect-timeout 30 --max-time 120 "$1" 2>&1) || {
        answer=$(sed -n '/^curl: /{s///p;q;}' <<< "$answer")
        fail "$1: ${answer:-no answer}; check the network, or VIT_URL and MAE_URL, and run this again"
    }
    size=$(tr -d '\r' <<< "$answer" | awk '/^HTTP\// {n = ""} tolower($1) == "content-length:" {n = $2} END {print n}')
    [[ $size =~ ^[1-9][0-9]*$ ]] || fail "$1: the server does not say how long the file is; is this the right address?"
    echo "$size"
}

transfer() { # URL PART: fetch what PART lacks
    local code=0 meter=--silent
    [ ! -t 2 ] || meter=--progress-bar
    curl --fail --location --proto-redir =https --connect-timeout 30 --speed-limit 1 --speed-time 60 "$meter" \
        --continue-at - --output "$2" "$1" || code=$?
    case $code in
        0) ;;
        23) fail "$2 cannot be written (is the disk full?); make room, the same command resumes" 4 ;;
        33)
            rm -f "$2"
            fail "$1: this server cannot resume a download; $2 is removed, the same command starts anew"
            ;;
        *) fail "$1: the download broke off (curl error $code); what arrived is kept in $2, the same command resumes" ;;
    esac
}

fault() { # FILE SIZE MD5: what is wrong with it, or nothing
    local found
    found=$(bytes "$1")
    if [ "$found" != "$2" ]; then
        echo "$1 has $found bytes, the file on the server $2"
    elif [ -n "$3" ]; then
        found=$(md5 "$1")
        [[ $found == "$3"* ]] || echo "the md5 of $1 is $found, the published one begins with $3"
    fi
}

fetch() { # URL FILE MD5, "" where none is published
    local url=$1 file=$2 md5=$3 part=$2.part size fault
    size=$(remote_bytes "$url") || exit
    if [ -e "$file" ]; then
        fault=$(fault "$file" "$size" "$md5")
        [ -z "$fault" ] || fail "$fault; move it away and run this again"
        echo "$file: complete already, kept"
    else
        if [ "$(bytes "$part")" -gt "$size" ]; then
            echo "$part: longer than the file on the server, removed"
            rm -f "$part"
        fi
        if [ "$(bytes "$part")" -lt "$size" ]; then
            echo "$file: fetching $size bytes, $(bytes "$part") of them here already"
            transfer "$url" "$part"
        fi
        fault=$(fault "$part" "$size" "$md5")
        if [ -n "$fault" ]; then
            rm -f "$part"
            fail "$fault; it is removed, the same command starts anew"
        fi
        mv "$part" "$file"
    fi
    if [ -n "$md5" ]; then
        echo "    size as on the server; md5 begins with $md5, as published"
    else
        echo "    size as on the server; no checksum is published: should it not load, delete it and run this again"
    fi
}

command -v curl > /dev/null || fail "curl was not found; install it (Debian, Ubuntu: apt install curl) and run this again"
root=$(CDPATH='' cd -- "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=$root/ckpt
case ${1:-} in
    -h | --help)
        sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
        exit
        ;;
    -*) fail "$1: no such option; usage: bash scripts/download_weights.sh [FOLDER] [NAME …]" ;;
    "" | *.npz | *.pth) ;;
    /*) folder=$1 ;;
    *) folder=$PWD/$1 ;;
esac
[ $# = 0 ] || [[ $1 == *.npz || $1 == *.pth ]] || shift
# shellcheck disable=SC2086
[ $# != 0 ] || set -- $NAMES
for name in "$@"; do
    is_name "$name" || fail "$name is none of the public checkpoints: $NAMES"
done
{ mkdir -p "$folder" 2> /dev/null && [ -w "$folder" ]; } || fail "$folder cannot be written to; name another folder"

trap 'fail "interrupted; the same command resumes" 130' INT
files=()
for name in "$@"; do
    files+=("$folder/$name")
    case $name in
        *.npz) fetch "${VIT_URL%/}/$name" "$folder/$name" "" ;;
        *) fetch "${MAE_URL%/}/$name" "$folder/$name" "$MAE_MD5" ;;
    esac
done
trap - INT

[ -z "${SKIP_CHECK:-}" ] || exit 0
set -- # setup.sh reads the arguments of whoever sources it
source "$root/scripts/setup.sh"
exec python scripts/check.py --checks weights --pretrain_weight "${files[@]}"

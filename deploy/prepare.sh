#!/bin/sh
# Prepares the compose project's volumes, once: the data set goes into /data, and the trainer trains the first teacher.
# What is there already is left alone, so every later start is over at once.
set -eu

dataset=fashion-mnist
recipe="${RETORT_RECIPE:-demo}"
teacher="${RETORT_TEACHER_RUN:-teacher}"
config="/etc/retort/$recipe/teacher.toml"

say() {
    printf 'prepare: %s\n' "$1"
}

fail() {
    printf 'prepare: %s\n' "$1" >&2
    exit 1
}

put_data() {
    if [ -d "/data/$dataset" ]; then
        say "data set $dataset: already in the volume"
        return
    fi
    say "data set $dataset: copying 60,000 + 10,000 images (55 MB) into the volume"
    rm -rf "/data/.partial"
    # Renamed when it is complete: an interrupted copy leaves no half of a data set.
    cp -r "/usr/share/retort/$dataset" /data/.partial && mv /data/.partial "/data/$dataset" ||
        fail "cannot write to /data as user $(id -u): give that volume to this user (chown $(id -u) FOLDER)"
}

# The state in the list of runs: queued, running, succeeded, failed, cancelled; nothing where there is no such run.
state() {
    retort runs list | awk -v run="$teacher" '$1 == run {print $2}'
}

train_teacher() {
    # A run's manifest is written last.
    if [ -f "/runs/$teacher/manifest.json" ]; then
        say "teacher $teacher: already trained"
        return
    fi
    case "$(state)" in
    queued | running)
        say "teacher $teacher: the trainer is at it"
        retort runs watch "$teacher"
        ;;
    *)
        [ -f "$config" ] || fail "RETORT_RECIPE=$recipe: there is no such recipe; take demo or demo-quick"
        if [ -e "/runs/$teacher" ]; then
            fail "the run $teacher did not finish (retort runs show $teacher says why): remove its folder from the \
volume of runs, or set RETORT_TEACHER_RUN to another name"
        fi
        say "teacher $teacher: training it as $recipe/teacher.toml says (demo: some minutes; demo-quick: seconds)"
        retort run "$config" --name "$teacher" --set "data.path=/data/$dataset"
        ;;
    esac
}

put_data
train_teacher
say "done"

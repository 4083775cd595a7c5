#!/bin/sh
# Prepares the compose project's volumes once: copies the data set into /data and lets the trainer train the first
# teacher. Existing data sets and teachers stay, so later starts end at once.
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
        say "data set $dataset: the volume contains it already"
        return
    fi
    say "data set $dataset: copying 60,000 + 10,000 images (55 MB) into the volume"
    rm -rf "/data/.partial"
    # Renamed when complete, so that an interrupted copy leaves no partial data set.
    cp -r "/usr/share/retort/$dataset" /data/.partial && mv /data/.partial "/data/$dataset" ||
        fail "cannot write to /data as user $(id -u): give that volume to this user (chown $(id -u) FOLDER)"
}

# Prints the state of the run: queued, running, succeeded, failed or cancelled; nothing if there is no such run.
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
        say "teacher $teacher: the trainer is training it already"
        retort runs watch "$teacher"
        ;;
    *)
        [ -f "$config" ] || fail "RETORT_RECIPE=$recipe: there is no such recipe; use demo or demo-quick"
        if [ -e "/runs/$teacher" ]; then
            fail "the run $teacher did not finish (retort runs show $teacher says why): remove its folder from the \
volume of runs, or set RETORT_TEACHER_RUN to another name"
        fi
        say "teacher $teacher: training it with $recipe/teacher.toml (demo: some minutes; demo-quick: seconds)"
        retort run "$config" --name "$teacher" --set "data.path=/data/$dataset"
        ;;
    esac
}

put_data
train_teacher
say "done"

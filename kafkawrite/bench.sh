#!/bin/bash
# Compares kafkawrite and kafkaread with kcat, and with one SendMessage per line, on a real Kafka.
#
#     KAFKA_BROKER=host:port kafkawrite/bench.sh [LINES [RUNS]]
#
# It writes LINES (1000000) lines of 100 bytes to topics of its own, RUNS (5) times, after three times that are not
# counted. The programs take turns, so that other work on the machine hits all of them. It prints the median of each and
# their ratios. It needs Go and kcat. The topics (bench-*) stay, for Kafka deletes them more easily than a script that was
# interrupted: see the last lines.
set -euo pipefail
lines=${1:-1000000} runs=${2:-5}
: "${KAFKA_BROKER:?set it to the address of a Kafka}"
export KAFKA_BROKER
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
go build -o "$dir/" ./kafkawrite ./kafkaread
awk -v n="$lines" 'BEGIN { x = sprintf("%89s", ""); gsub(/ /, "x", x); for (i = 1; i <= n; i++) printf "%010d %s\n", i, x }' >"$dir/lines"

# measure NAME COMMAND: seconds, and the peak memory in KB, to a file of that name
measure() {
    local name=$1
    shift
    /usr/bin/time -a -o "$dir/$name" -f "%e %M" bash -c "$*"
}

# median NAME: of the seconds; peak NAME: the most memory
median() { sort -n "$dir/$1" | sed -n "$(((runs + 1) / 2))p" | cut -d" " -f1; }
peak() { cut -d' ' -f2 "$dir/$1" | sort -n | tail -n 1; }

slow=$((lines / 50)) # one line at a time; slower than in a batch, so fewer of them do
topic=bench-$(date +%s)-$$
for run in $(seq -2 "$runs"); do # those up to 0 only warm the broker up: its JVM compiles meanwhile
    echo "run $run of $runs" >&2
    ((run != 1)) || rm "$dir"/{write,kcat-write,read,kcat-read,single}
    export TOPIC=$topic-$run
    for t in "$TOPIC" "$TOPIC-kcat"; do TOPIC=$t "$dir/kafkawrite" </dev/null >/dev/null 2>&1; done # makes it
    measure write "$dir/kafkawrite <$dir/lines >/dev/null 2>&1"
    measure kcat-write "kcat -P -b $KAFKA_BROKER -t $TOPIC-kcat -p 0 -X acks=all <$dir/lines"
    measure read "$dir/kafkaread -offset oldest -exit >$dir/out"
    cmp "$dir/lines" "$dir/out"
    measure kcat-read "kcat -C -e -q -b $KAFKA_BROKER -t $TOPIC -o beginning >$dir/out"
    cmp "$dir/lines" "$dir/out"
    # A line, its acknowledgement, the next line: what the lab does.
    (go test -count=1 -run '^$' -bench SendMessage -benchtime "${slow}x" ./internal/write | awk '/ns\/op/ { print $3 / 1e9 * '"$lines"', 0 }') >>"$dir/single"
done

awk -v n="$lines" -v w="$(median write)" -v kw="$(median kcat-write)" -v r="$(median read)" -v kr="$(median kcat-read)" -v s="$(median single)" \
    -v mw="$(peak write)" -v mr="$(peak read)" 'BEGIN {
    print "| what | lines/s | against |"
    print "|---|---|---|"
    printf "| kafkawrite < file | %d | %.2f x kcat -P, %.0f x one SendMessage per line; peak memory %d MB |\n", n / w, kw / w, s / w, mw / 1024
    printf "| kcat -P -X acks=all | %d | |\n", n / kw
    printf "| one SendMessage per line | %d | |\n", n / s
    printf "| kafkaread -offset oldest -exit | %d | %.2f x kcat -C -e; peak memory %d MB |\n", n / r, kr / r, mr / 1024
    printf "| kcat -C -e | %d | |\n", n / kr
}'
echo "topics $topic-* are left on $KAFKA_BROKER" >&2

#!/bin/sh
# A real Slurm of two nodes, for as long as this script runs: configuration, munge, slurmctld and two slurmd live in a folder
# of their own and are stopped at the end. A smoke item is fanned out with `resteutils launch --on slurm`, and its notebook
# only reads; a run is queued again; runs train on several processes and nodes; a whole item is sent. Needs root and
# Debian's packages slurm-wlm and munge; called by `make test-slurm`.
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}

for program in slurmctld slurmd munged sbatch; do
  command -v "$program" >/dev/null || PATH=$PATH:/usr/sbin
  command -v "$program" >/dev/null || { echo "test-slurm: no $program; on Debian: apt-get install slurm-wlm munge" >&2; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "test-slurm: slurmd starts jobs for users, so it needs root" >&2; exit 1; }

work=$(mktemp -d "${TMPDIR:-/tmp}/reste-slurm.XXXXXX")
host=$(hostname -s)
cores=$(getconf _NPROCESSORS_ONLN) # nproc would listen to OMP_NUM_THREADS
nodes="127.0.0.1 127.0.0.2" # names by which the tasks of a run find each other without a name server
mkdir "$work/state"
chmod 755 "$work"

stop() {
  status=$?
  trap - EXIT INT TERM
  scancel --user="$(id -un)" 2>/dev/null && sleep 1 # a job outlives its slurmd otherwise
  for daemon in "$work"/slurmd-*.pid "$work/slurmctld.pid" "$work/munged.pid"; do
    [ -f "$daemon" ] && kill "$(cat "$daemon")" 2>/dev/null
  done
  if [ "$status" = 0 ]; then sleep 1; rm -rf "$work"; else echo "test-slurm: failed; logs stay in $work" >&2; fi
  exit "$status"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

cat >"$work/slurm.conf" <<CONF
ClusterName=reste
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool-%n
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd-%n.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
NodeName=127.0.0.[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=[16818-16819] CPUs=$cores State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$work/slurm.conf"

dd if=/dev/urandom of="$work/munge.key" bs=1024 count=1 2>/dev/null
chmod 600 "$work/munge.key"
munged --force --key-file="$work/munge.key" --socket="$work/munge.socket" --pid-file="$work/munged.pid" \
  --log-file="$work/munged.log" --seed-file="$work/munged.seed"
slurmctld
for node in $nodes; do
  mkdir "$work/spool-$node"
  slurmd -N "$node"
done
tries=0
until sinfo --noheader --Node --format %T 2>/dev/null | grep -c idle | grep -q 2; do
  tries=$((tries + 1))
  [ "$tries" -lt 60 ] || { sinfo >&2; tail -n 20 "$work"/*.log >&2; exit 1; }
  sleep 0.5
done
echo "== Slurm $(sinfo --version | cut -d' ' -f2), two nodes of $cores CPUs (it keeps no accounts: sacct complains, harmlessly)"

ended() { # wait until no job is queued or runs: one ends a moment after its result is on the disk
  tries=0
  while squeue --noheader | grep -q .; do
    tries=$((tries + 1))
    [ "$tries" -lt "$1" ] || { squeue >&2; exit 1; }
    sleep 0.5
  done
}

records() { # finished runs whose folder fits the pattern
  find "$RUNS_DIR" -path "$1/record.json" | wc -l
}

export RUNS_DIR="$work/runs" RESULTS_DIR="$work/results" WANDB_MODE=disabled
item="table3 --profile smoke --rows ste,reste"
mkdir -p "$work/shared/data" # staged by the script of docs/running.md, for four jobs at once
touch "$work/shared/data/here"
mkdir -p "$work/node/data.part/data" # what a job left that was killed while it copied
sed -n '/^# stage.sh/,/^```/p' docs/running.md | sed "/^\`\`\`/d; s|/shared|$work/shared|g; s|/tmp/\$USER|$work/node|g" >"$work/stage.sh"
grep -q flock "$work/stage.sh"
# shellcheck disable=SC2086  # the item's options are words
"$python" -m resteutils launch $item --seeds 0,1 --on slurm --parallel 2 --threads 1 \
  --cluster "slurm_setup=[\"source $work/stage.sh\"]"
[ "$(cd "$work/node" && find . -mindepth 1 | sort | tr '\n' ' ')" = "./data ./data/here ./lock " ]

echo "== what Slurm says of the jobs"
ended 60
scontrol --oneliner show job | sed 's/^\(JobId=[^ ]*\) .*\(JobState=[^ ]*\).*\(NodeList=[^ ]*\).*/\1 \2 \3/' | sort | tee "$work/jobs"
[ "$(grep -c JobState=COMPLETED "$work/jobs")" = 4 ]

echo "== the notebook finds the runs finished"
[ "$(records '*')" = 4 ] || { echo "test-slurm: expected 4 finished runs, found $(records '*')" >&2; exit 1; }
# shellcheck disable=SC2086
"$python" -m resteutils reproduce $item --seeds 0,1
[ "$(records '*')" = 4 ]

echo "== a run that Slurm queues again in the middle: its second life ends it"
"$python" -m resteutils launch table3 --profile smoke --rows ste --seeds 7 --epochs 200 --on slurm --threads 1 >"$work/requeued" 2>&1 &
launched=$!
tries=0
until find "$RUNS_DIR" -path '*-200ep-*-s7/history.csv' | grep -q .; do # it trains
  tries=$((tries + 1))
  [ "$tries" -lt 600 ] || { cat "$work/requeued" >&2; exit 1; }
  sleep 0.5
done
job=$(squeue --noheader --states=RUNNING --format %i)
scontrol requeue "$job"
wait "$launched" || { cat "$work/requeued" >&2; exit 1; }
cat "$work/requeued"
grep -q "1 of 1 finished" "$work/requeued"
scontrol show job "$job" | grep -q "Restarts=1"
grep -h "going on after epoch [1-9]" "$RUNS_DIR/launch/${job%_*}"_*.out || { # else the second life began anew
  cat "$RUNS_DIR/launch/${job%_*}"_*.out >&2
  echo "test-slurm: the run that was queued again did not go on from its checkpoint" >&2
  exit 1
}

echo "== a run of two processes on one node, and one of two nodes"
together="table3 --profile smoke --rows ste --on slurm --threads 1 --device cpu"
# shellcheck disable=SC2086
"$python" -m resteutils launch $together --seeds 8 --gpus-per-run 2
# shellcheck disable=SC2086
"$python" -m resteutils launch $together --seeds 9 --nodes 2
[ "$(cat "$RUNS_DIR"/*-s[89]/record.json | grep -c '"world": 2')" = 2 ]
scontrol --oneliner show job | grep "NodeList=127.0.0.\[1-2\]" | grep -q "NumNodes=2"

echo "== a whole item: its runs, and its notebook behind them"
rm -rf "$RESULTS_DIR/smoke/table3"
"$python" -m resteutils reproduce table3 --profile smoke --rows ste,reste --seeds 5 --on slurm --parallel 2
scontrol --oneliner show job | grep "JobName=reste-table3-notebook" | grep -q "Dependency=afterany:"
ended 600
grep -q "ReSTE" "$RESULTS_DIR/smoke/table3/table.md"
[ "$(records '*-s5')" = 2 ]
echo "test-slurm: 4 runs trained by Slurm, read by the notebook; one queued again and finished; one of two processes, one of" \
  "two nodes; an item with its notebook"

#!/bin/sh
# A real Slurm of one node, for as long as this script runs: configuration, munge, slurmctld and slurmd live in a folder of
# their own and are stopped at the end. A smoke item is fanned out with `resteutils launch --on slurm`; then the notebook
# only reads. Needs root and Debian's packages slurm-wlm and munge; called by `make test-slurm`.
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
mkdir "$work/state" "$work/spool"
chmod 755 "$work"

stop() {
  status=$?
  trap - EXIT INT TERM
  scancel --user="$(id -un)" 2>/dev/null && sleep 1 # a job outlives its slurmd otherwise
  for daemon in slurmd slurmctld munged; do
    [ -f "$work/$daemon.pid" ] && kill "$(cat "$work/$daemon.pid")" 2>/dev/null
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
SlurmdPort=16818
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cores State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$work/slurm.conf"

dd if=/dev/urandom of="$work/munge.key" bs=1024 count=1 2>/dev/null
chmod 600 "$work/munge.key"
munged --force --key-file="$work/munge.key" --socket="$work/munge.socket" --pid-file="$work/munged.pid" \
  --log-file="$work/munged.log" --seed-file="$work/munged.seed"
slurmctld
slurmd
tries=0
until sinfo --noheader --format %T 2>/dev/null | grep -q idle; do
  tries=$((tries + 1))
  [ "$tries" -lt 60 ] || { sinfo >&2; tail -n 20 "$work"/*.log >&2; exit 1; }
  sleep 0.5
done
echo "== Slurm $(sinfo --version | cut -d' ' -f2), one node, $cores CPUs (it keeps no accounts: sacct complains, harmlessly)"

export RUNS_DIR="$work/runs" RESULTS_DIR="$work/results" WANDB_MODE=disabled
item="table3 --profile smoke --rows ste,reste"
# shellcheck disable=SC2086  # the item's options are words
"$python" -m resteutils launch $item --seeds 0,1 --on slurm --parallel 2 --threads 1

echo "== what Slurm says of the jobs"
tries=0
while squeue --noheader | grep -q .; do # a job ends a moment after its result is on the disk
  tries=$((tries + 1))
  [ "$tries" -lt 60 ] || { squeue >&2; exit 1; }
  sleep 0.5
done
scontrol --oneliner show job | sed 's/^\(JobId=[^ ]*\) .*\(JobState=[^ ]*\).*\(NodeList=[^ ]*\).*/\1 \2 \3/' | sort | tee "$work/jobs"
[ "$(grep -c JobState=COMPLETED "$work/jobs")" = 4 ]

echo "== the notebook finds the runs finished"
before=$(find "$RUNS_DIR" -name record.json | wc -l)
[ "$before" = 4 ] || { echo "test-slurm: expected 4 finished runs, found $before" >&2; exit 1; }
# shellcheck disable=SC2086
"$python" -m resteutils reproduce $item --seeds 0,1
[ "$(find "$RUNS_DIR" -name record.json | wc -l)" = 4 ]

echo "== a run that Slurm queues again in the middle: its second life ends it"
"$python" -m resteutils launch table3 --profile smoke --rows ste --seeds 7 --epochs 400 --on slurm --threads 1 >"$work/requeued" 2>&1 &
launched=$!
tries=0
until find "$RUNS_DIR" -path '*-400ep-*-s7/*' -type f | grep -q .; do
  tries=$((tries + 1))
  [ "$tries" -lt 240 ] || { cat "$work/requeued" >&2; exit 1; }
  sleep 0.5
done
sleep 2
job=$(squeue --noheader --states=RUNNING --format %i)
scontrol requeue "$job"
wait "$launched" || { cat "$work/requeued" >&2; exit 1; }
cat "$work/requeued"
grep -q "1 of 1 finished" "$work/requeued"
scontrol show job "$job" | grep -q "Restarts=1"

echo "== a run of two processes"
"$python" -m resteutils launch table3 --profile smoke --rows ste --seeds 8 --on slurm --threads 1 --gpus-per-run 2 --device cpu
[ "$(find "$RUNS_DIR" -path '*-s8/record.json' | wc -l)" = 1 ]
echo "test-slurm: 4 runs trained by Slurm, read by the notebook; one queued again and finished; one of two processes"

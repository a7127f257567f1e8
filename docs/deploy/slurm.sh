#!/bin/bash
# Training longer than the time limit of the queue: stopped with a checkpoint in time, requeued, and resumed.
#
#     sbatch docs/deploy/slurm.sh
#SBATCH --job-name=trainer
#SBATCH --time=01:00:00
#SBATCH --cpus-per-task=2
#SBATCH --mem=1G
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR2@120

# The job number survives a requeue; an array has one for each task.
run=job-${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+-$SLURM_ARRAY_TASK_ID}

# Slurm signals the shell; the shell forwards the warning and the termination to the run.
trap 'kill -USR2 $!' USR2
trap 'kill -TERM $!' TERM
trainer --logdir "${TRAINER_LOGDIR:-logs}" --run-name "$run" "$@" &
pid=$!
# A signal ends `wait`, not the run.
while kill -0 $pid 2>/dev/null; do wait $pid; done
wait $pid
code=$?

if [ $code -eq 75 ]; then
    exec scontrol requeue "$SLURM_JOB_ID"
fi
exit $code

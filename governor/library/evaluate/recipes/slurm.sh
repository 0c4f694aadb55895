#!/bin/bash
# Accuracy over a data set as a Slurm array job: eight parts, each on the cores of one task.
#
#   MODEL=m.dofa DATA=/data/imagenet sbatch slurm.sh
#   sbatch --array=3,5 slurm.sh               # again, those that failed; MODEL and DATA as before
#   dynofa eval merge parts/*.json --json     # when all are there
#
# A part file appears whole or not at all, and a task that runs again writes the same bytes, so requeueing is safe.
#SBATCH --job-name=dynofa-eval
#SBATCH --array=0-7
#SBATCH --cpus-per-task=1
#SBATCH --output=eval-%a.log
set -eu

export DYNOFA_SHARDS=8 # of all, also where only some are submitted again
mkdir -p parts
exec "${DYNOFA:-dynofa}" eval "$MODEL" --data "$DATA" -o "parts/$SLURM_ARRAY_TASK_ID.json"

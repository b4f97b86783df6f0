#!/bin/bash
#SBATCH --job-name=shards
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --time=1-00:00:00
#SBATCH --requeue
#SBATCH --output=shard-%A-%a.log

# One shard of any config that has the option `shard`, as a task of a job array. Submit it in the folder of the bundle:
#   sbatch --array=0-63 integrations/slurm/shards.sh --config_file configs/factory.json --count 100000 --output_dir OUT
# A task that is killed or requeued goes on where it was. PYTHON names another interpreter than that of the PATH.

set -euo pipefail
if [[ "${SLURM_ARRAY_TASK_MIN:-0}" != 0 || "${SLURM_ARRAY_TASK_MAX:-0}" != $((SLURM_ARRAY_TASK_COUNT - 1)) ]]; then
    echo "the array must be all numbers from 0: --array=0-63; shards that are complete end at once" >&2
    exit 2
fi
exec "${PYTHON:-python}" -m monai.bundle run "$@" --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"

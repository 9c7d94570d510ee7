"""What `scripts/gpu_check.sh` runs: versions, tests by op, races of the ops and training steps on a GPU."""

#!/usr/bin/env bash
# The command of every table and figure in README.md and WORKSPACE.md; under an hour
# on 2 cores.
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python

# Table 1: published bodies, 200 adaptation transitions, 300 episodes, 5 seeds
$python -m experiments.run --domain=navigation1 --tasks=published --preset=quick \
  --online_episodes=300 --seeds=5 --workdir=runs/published

# Table 2 and the figures: reversed actuators, 50 adaptation transitions, 10 seeds
$python -m experiments.run --domain=navigation1 --tasks=flip --preset=quick \
  --data_adaptation=50 --seeds=10 --workdir=runs/flip

# Choices (WORKSPACE.md): bodies apart from every test seed
for choice in "" "--online_violation_fraction=0" "--recovery_saturation_penalty=0"; do
  $python -m experiments.run --domain=navigation1 --tasks=flip --preset=quick \
    --data_adaptation=50 --methods=recovery_rl,multi_task,mesa --seeds=1000:1006 \
    $choice --workdir="runs/choice$choice"
done

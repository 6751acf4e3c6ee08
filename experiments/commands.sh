#!/usr/bin/env bash
# The command of every table and figure in README.md (about an hour on 2 cores).
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python

# Table 1: published bodies, 200 adaptation transitions, 300 episodes, 5 seeds
$python -m experiments.run --domain=navigation1 --tasks=published --preset=quick \
  --online_episodes=300 --seeds=5 --workdir=runs/published

# Table 2 and the figures: reversed actuators, 50 adaptation transitions, 10 seeds
$python -m experiments.run --domain=navigation1 --tasks=flip --preset=quick \
  --data_adaptation=50 --seeds=10 --workdir=runs/flip

#!/usr/bin/env bash
# The command of every table and figure in README.md and WORKSPACE.md.
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python

bodies="published flip wind rotation out_of_support"

# Presets: sixteen settings a method on held-out training bodies; over an hour on 2 cores
for domain in navigation1 navigation2; do
  for tasks in $bodies; do
    $python -m experiments.tune --domain=$domain --tasks=$tasks --update_presets \
      --quality_rollouts=512 --workdir=runs/tune/$domain-$tasks
  done
done

# Risk quality: table and figures; two hours on 2 cores
for domain in navigation1 navigation2; do
  for tasks in $bodies; do
    for meta_seed in 0 1 2; do
      $python -m experiments.evaluate --domain=$domain --tasks=$tasks \
        --meta_seed=$meta_seed --workdir=runs/quality/$domain-$tasks
    done
  done
done
$python -m experiments.tabulate --workdirs="$(echo runs/quality/* | tr ' ' ,)"

# Published bodies
$python -m experiments.run --domain=navigation1 --tasks=published --online_episodes=300 \
  --seeds=5 --workdir=runs/published

# Reversed actuators and their curves: 50 adaptation transitions, 10 seeds
$python -m experiments.run --domain=navigation1 --tasks=flip --data_adaptation=50 --seeds=10 \
  --workdir=runs/flip
$python -m experiments.run --domain=navigation2 --tasks=flip --data_adaptation=50 --seeds=10 \
  --workdir=runs/flip2

# The price of the risk threshold
$python -m experiments.thresholds --methods=multi_task,mesa --seeds=4 \
  --workdir=runs/quality/navigation1-flip

# Choices (WORKSPACE.md): bodies apart from every test seed. Measured with version 0.1.0
# (revision f057f61), before the presets held chosen settings
for choice in "" "--online_violation_fraction=0" "--recovery_saturation_penalty=0"; do
  $python -m experiments.run --domain=navigation1 --tasks=flip --preset=quick \
    --data_adaptation=50 --methods=recovery_rl,multi_task,mesa --seeds=1000:1006 \
    $choice --workdir="runs/choice$choice"
done

# Cart-pole, half-cheetah and ant: online tables, half an hour each on 2 cores
$python -m experiments.run --domain=cartpole_length --tasks=actuator --seeds=5 \
  --workdir=runs/cartpole
$python -m experiments.run --domain=halfcheetah_disabled --seeds=5 --workdir=runs/halfcheetah
$python -m experiments.run --domain=ant_disabled --seeds=5 --workdir=runs/ant
$python -m experiments.render --workdir=runs/halfcheetah --method=mesa --seed=1 --episode=16

# A limb dies in mid-run
methods="unconstrained,recovery_rl,mesa,mesa_readapting"
$python -m experiments.run --domain=halfcheetah_disabled --tasks=intact --methods=$methods \
  --fault=dead:part=5,onset=10000 --online_steps=20000 --seeds=5 --workdir=runs/halfcheetah-fault
$python -m experiments.run --domain=ant_disabled --tasks=intact --methods=$methods \
  --fault=dead:part=0/1,onset=10000 --online_steps=20000 --seeds=5 --workdir=runs/ant-fault

# Risk quality there
$python -m experiments.evaluate --domain=cartpole_length --tasks=actuator --seeds=12 \
  --workdir=runs/cartpole
$python -m experiments.evaluate --domain=halfcheetah_disabled --seeds=5 --workdir=runs/halfcheetah
$python -m experiments.evaluate --domain=ant_disabled --seeds=5 --workdir=runs/ant

# Throughput; the yardstick wants `pip install -e ".[yardstick]"`
$python -m experiments.benchmark --tasks=5,20,64,256,1024 --output=runs/benchmark.json \
  --yardstick=../shared/yardstick/torch_meta_step.py

# The released code: risk quality (WORKSPACE.md), ten minutes a prior on one core
$python -m experiments.evaluate --domain=navigation1 --seeds=6 --workdir=runs/released \
  --methods=mesa,mesa_published,mesa_published_rate,mesa_published_body

# The released code online (WORKSPACE.md): its initial weights matter on raw inputs. The
# table was made so at revision b36dc6d, with --methods=mesa_published and its switches
$python -m experiments.online --domain=navigation1 --seeds=3 --online_episodes=300 \
  --methods=recovery_rl_published --workdir=runs/released-online

# Reading the adaptation set (README)
$python -m experiments.evaluate --domain=navigation1 --tasks=flip \
  --methods=context,mesa_context --quality_rows=20,50,200 --workdir=runs/context

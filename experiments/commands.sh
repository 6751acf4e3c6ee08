#!/usr/bin/env bash
# The command of every table and figure in README.md and WORKSPACE.md.
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python

bodies="published flip wind rotation out_of_support"

# Presets: sixteen settings a method on held-out training bodies; over an hour on 2 cores
# without what reads (context, mesa_context), which takes most of a day
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

# Initial kernels of SAC (experiments/results/sac_initializers.md)
$python -m experiments.probe_sac --steps=2500 --seeds=12 \
  --output=experiments/results/sac_initializers.csv

# The recovery policy settles (experiments/results/recovery_policy.md): new bodies of the
# training distribution
test="--domain=navigation1 --tasks=flip --bodies=200 --data_adaptation=50"
$python -m experiments.filter_test $test --methods=multi_task,mesa,context \
  --workdir=runs/settle-100
$python -m experiments.filter_test $test --methods=mesa --inner_loop_settle_steps=0 \
  --workdir=runs/settle-0

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

# The released code and its differences from ours, one at a time (WORKSPACE.md): two hours on
# one core. At revision 05c38c4
methods="mesa,recovery_rl_published,multi_task_published,mesa_published"
for switched in rate inputs target outer network recovery body; do
  methods="$methods,mesa_published_$switched"
done
$python -m experiments.evaluate --domain=navigation1 --seeds=6 --online_episodes=100 \
  --methods=$methods --workdir=runs/released
$python -m experiments.online --domain=navigation1 --seeds=3 --online_episodes=100 \
  --methods=$methods --workdir=runs/released

# Paper sizes: an hour and more each on one core. README's row without an anchor is
# navigation1 with --maml_anchor=0
methods="unconstrained,recovery_rl,multi_task,multi_task_few,mesa"
for domain in navigation1 navigation2; do
  $python -m experiments.run --domain=$domain --preset=paper --seeds=3 --methods=$methods \
    --workdir=runs/paper-$domain
done

# Reading the adaptation set: five minutes a meta-seed and distribution on one core; the Brax
# domains half an hour each
methods=multi_task,multi_task_few,mesa,context,mesa_context
for meta_seed in 0 1 2; do
  for domain in navigation1 navigation2; do
    for tasks in $bodies; do
      $python -m experiments.evaluate --domain=$domain --tasks=$tasks --meta_seed=$meta_seed \
        --quality_transitions=20,50,200 --methods=$methods --workdir=runs/context-$domain-$tasks
    done
  done
  $python -m experiments.evaluate --domain=cartpole_length --tasks=actuator --seeds=12 \
    --meta_seed=$meta_seed --quality_transitions=20,50,200 --methods=$methods \
    --workdir=runs/context-cartpole
done
for domain in halfcheetah_disabled ant_disabled; do  # (what reads: meta-seeds 1 and 2 too)
  $python -m experiments.evaluate --domain=$domain --seeds=5 --quality_transitions=20,50,200 \
    --methods=$methods --workdir=runs/context-$domain
done
cells=mesa:5,multi_task_few:5,context:0,mesa_context:0,mesa_context:5,mesa_context:own
$python -m experiments.tabulate --rows=20,50,200 --cells=$cells \
  --workdirs="$(echo runs/context-* | tr ' ' ,)"
$python -m experiments.scores --domain=navigation1 --tasks=out_of_support \
  --quality_transitions=20,50,200 --risk_ensemble_size=5 --workdir=runs/scores \
  --others=wind,rotation,flip
# What limits it (WORKSPACE.md): a critic told the body, and more training bodies
$python -m experiments.evaluate --domain=navigation1 --tasks=rotation --data_train_bodies=64 \
  --quality_transitions=200 --methods=context,oracle --workdir=runs/rotation-64
for where in navigation1-rotation navigation2-wind cartpole_length-actuator; do
  $python -m experiments.evaluate --domain=${where%-*} --tasks=${where#*-} --seeds=12 \
    --quality_transitions=20,50,200 --methods=system_id,oracle --workdir=runs/told-$where
done
# Time of meta-training, on one core, run twice so that programs are found in the cache
for method in context mesa_context; do
  time taskset -c 0 $python -m experiments.meta_train --domain=navigation1 --method=$method \
    --workdir="runs/time-$method-$RANDOM"
done
# Online from 20 transitions, and after a fault
fault="--fault=reversed:part=1,onset=2000 --online_steps=6000 --online_episodes=1000"
for meta_seed in 0 1 2; do
  for tasks in wind out_of_support; do
    $python -m experiments.online --domain=navigation1 --tasks=$tasks --data_adaptation=20 \
      --seeds=10 --meta_seed=$meta_seed --methods=multi_task,mesa,context,mesa_context \
      --workdir=runs/read-$tasks
  done
  $python -m experiments.online --domain=navigation1 --tasks=flip $fault --seeds=10 \
    --meta_seed=$meta_seed --methods=multi_task,mesa,mesa_readapting,context,mesa_context \
    --workdir=runs/reversed
done
for level in "" --recovery_false_safe=0.05; do
  $python -m experiments.online --domain=navigation2 --tasks=flip --data_adaptation=50 \
    --seeds=10 --meta_seed=2 --methods=mesa,context,mesa_context $level \
    --workdir="runs/read-flip2$level"
done
$python -m experiments.run --domain=halfcheetah_disabled --tasks=intact --seeds=5 \
  --fault=dead:part=5,onset=10000 --online_steps=20000 \
  --methods=mesa,mesa_readapting,context,mesa_context --workdir=runs/halfcheetah-fault-read
for every in 0 "501 --online_readapt_transitions=201" \
  "10 --online_readapt_transitions=20 --online_readapt_from=prior"; do
  for seeds in 5 100:105; do  # README (never), WORKSPACE.md
    $python -m experiments.online --domain=halfcheetah_disabled --tasks=intact \
      --fault=dead:part=5,onset=10000 --online_steps=20000 --seeds=$seeds --methods=context \
      --online_readapt_every=$every --workdir="runs/halfcheetah-every-${every%% *}"
  done
done
# How often, on how many transitions and from where (WORKSPACE.md, on bodies of their own;
# beside these each row with its setting)
for every in "100 100" "50 50" "20 50" "20 20"; do
  read -r steps rows <<<"$every"
  $python -m experiments.online --domain=navigation1 --tasks=flip $fault --seeds=100:110 \
    --methods=context,mesa_context --online_readapt_every=$steps --online_readapt_transitions=$rows \
    --workdir="runs/read-$steps-$rows"
  for tasks in wind out_of_support; do
    $python -m experiments.online --domain=navigation1 --tasks=$tasks --data_adaptation=20 \
      --seeds=100:110 --methods=context,mesa_context --online_readapt_every=$steps \
      --online_readapt_transitions=$rows --workdir="runs/read-$tasks-$steps-$rows"
  done
done
for every in "100 100 prior" "50 50 prior" "20 50 current" "10 20 prior"; do
  read -r steps rows start <<<"$every"
  $python -m experiments.online --domain=navigation1 --tasks=flip $fault --seeds=100:110 \
    --methods=mesa_readapting --online_readapt_every=$steps --online_readapt_transitions=$rows \
    --online_readapt_from=$start --workdir="runs/readapt-$steps-$rows-$start"
done
for meta_seed in 0 1 2; do  # README's second line of mesa_readapting
  $python -m experiments.online --domain=navigation1 --tasks=flip $fault --seeds=10 \
    --meta_seed=$meta_seed --methods=mesa_readapting --online_readapt_every=50 \
    --online_readapt_transitions=50 --online_readapt_from=prior --workdir=runs/readapt-prior
done

# System identification (README): at revision 5d95aa0, where `context` trained as long
for tasks in flip wind out_of_support; do
  $python -m experiments.evaluate --domain=navigation1 --tasks=$tasks --quality_transitions=20,50,200 \
    --quality_rollouts=128 --methods=context,system_id,oracle --workdir=runs/identified-$tasks
done

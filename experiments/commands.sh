#!/usr/bin/env bash
# The commands of the tables and figures in experiments/results/: a function a page. The
# page says which revision its numbers are of.
#
#   experiments/commands.sh            lists the pages, and how long their commands take
#   experiments/commands.sh PAGE ...   runs the commands of pages, one after the other
#
# `make results NAME=PAGE` sets up what it needs. Another interpreter: PYTHON=...
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}

bodies="published flip wind rotation out_of_support"
six="unconstrained,recovery_rl,multi_task,mesa,context,mesa_context"
fault="--fault=reversed:part=1,onset=2000 --online_steps=6000 --online_episodes=1000"
joined() { local IFS=,; echo "$*"; }  # its arguments, separated by commas
# online runs of ten bodies (or BODIES=...) by three meta-seeds, and one table: NAME FLAG ...
by_three() {
  local name=$1
  shift
  for meta_seed in 0 1 2; do
    $python -m experiments.online "$@" --seeds=${BODIES:-10} --meta_seed=$meta_seed \
      --workdir=runs/$name-$meta_seed
  done
  $python -m experiments.merge runs/$name-0 runs/$name-1 runs/$name-2 --workdir=runs/$name
  $python -m experiments.plot --workdir=runs/$name
}

quickstart() {  # 7 minutes on 2 cores
  make quickstart
}

chosen_settings() {  # by the filter test an hour of one core each; the first part most of a day
  # sixteen settings a method, by squared error
  for domain in navigation1 navigation2; do
    for tasks in $bodies; do
      $python -m experiments.tune --domain=$domain --tasks=$tasks --quality_rollouts=512 \
        --workdir=runs/tune/$domain-$tasks
    done
  done
  # by the filter test
  for where in navigation1-{flip,wind,out_of_support,published} navigation2-flip; do
    $python -m experiments.tune --domain=${where%-*} --tasks=${where#*-} --horizons=5,10 \
      --settings=2 --quality_filter_episodes=8 --quality_rollouts=64 --workdir=runs/tune-$where \
      --methods=recovery_rl,multi_task,mesa,context,mesa_context
  done
}

risk_error() {  # two hours and a half of one core
  for where in navigation1-flip navigation1-wind navigation1-out_of_support navigation2-flip; do
    for meta_seed in 0 1 2; do
      methods=recovery_rl,multi_task,mesa,context,mesa_context
      [[ $where-$meta_seed == navigation1-*-0 ]] && methods+=,system_id,oracle
      $python -m experiments.evaluate --domain=${where%-*} --tasks=${where#*-} \
        --meta_seed=$meta_seed --risk_horizon=10 --quality_transitions=20,200 --quality_steps=0,5 \
        --methods=$methods --workdir=runs/quality/$where
    done
  done
  cells=mesa:own,recovery_rl:own,multi_task:own,context:own,mesa_context:own,system_id:own
  $python -m experiments.tabulate --transitions=20,200 --cells=$cells,oracle:own \
    --workdirs="$(joined runs/quality/*)"
}

published_bodies() {  # an hour of one core
  BODIES=5 by_three published --domain=navigation1 --tasks=published --online_episodes=300 --methods=$six
}

reversed_actuators() {  # an hour and a half of one core
  by_three flip --domain=navigation1 --tasks=flip --data_adaptation=50 --methods=$six
  by_three flip2 --domain=navigation2 --tasks=flip --data_adaptation=50 --methods=$six
}

risk_threshold() {  # not timed
  $python -m experiments.thresholds --domain=navigation1 --tasks=flip \
    --methods=multi_task,mesa --seeds=4 --workdir=runs/quality/navigation1-flip
}

safety_choices() {  # not timed
  # bodies apart from every test seed
  for choice in "" "--online_violation_fraction=0" "--recovery_saturation_penalty=0"; do
    $python -m experiments.run --domain=navigation1 --tasks=flip --preset=quick \
      --data_adaptation=50 --methods=recovery_rl,multi_task,mesa --seeds=1000:1006 \
      $choice --workdir="runs/choice$choice"
  done
}

sac_initializers() {  # not timed
  $python -m experiments.probe_sac --steps=2500 --seeds=12 \
    --output=experiments/results/sac_initializers.csv
}

recovery_policy() {  # not timed
  # new bodies of the training distribution
  test="--domain=navigation1 --tasks=flip --bodies=200 --data_adaptation=50"
  $python -m experiments.filter_test $test --methods=multi_task,mesa,context \
    --workdir=runs/settle-100
  $python -m experiments.filter_test $test --methods=mesa --inner_loop_settle_steps=0 \
    --workdir=runs/settle-0
}

cartpole() {  # half an hour on 2 cores
  $python -m experiments.run --domain=cartpole_length --tasks=actuator --seeds=5 \
    --workdir=runs/cartpole
}

half_cheetah_ant() {  # an hour on 2 cores
  $python -m experiments.run --domain=halfcheetah_disabled --seeds=5 --workdir=runs/halfcheetah
  $python -m experiments.run --domain=ant_disabled --seeds=5 --workdir=runs/ant
}

limb_fault() {  # not timed
  methods="unconstrained,recovery_rl,mesa,mesa_readapting"
  $python -m experiments.run --domain=halfcheetah_disabled --tasks=intact --methods=$methods \
    --fault=dead:part=5,onset=10000 --online_steps=20000 --seeds=5 --workdir=runs/halfcheetah-fault
  $python -m experiments.run --domain=ant_disabled --tasks=intact --methods=$methods \
    --fault=dead:part=0/1,onset=10000 --online_steps=20000 --seeds=5 --workdir=runs/ant-fault
}

risk_error_elsewhere() {  # not timed
  $python -m experiments.evaluate --domain=cartpole_length --tasks=actuator --seeds=12 \
    --workdir=runs/cartpole
  $python -m experiments.evaluate --domain=halfcheetah_disabled --seeds=5 --workdir=runs/halfcheetah
  $python -m experiments.evaluate --domain=ant_disabled --seeds=5 --workdir=runs/ant
}

throughput() {  # not timed
  $python -m experiments.benchmark --tasks=5,20,64,256,1024 --output=runs/benchmark.json
}

released() {
  local name=$1 methods=$2
  shift 2
  $python -m experiments.evaluate --domain=navigation1 --seeds=6 --online_episodes=100 \
    --methods=$methods "$@" --workdir=runs/released-$name
  $python -m experiments.online --domain=navigation1 --seeds=3 --online_episodes=100 \
    --methods=$methods "$@" --workdir=runs/released-$name
}
released_code() {  # 2 hours of one core
  # the released settings, then one difference at a time switched to ours
  released all mesa,recovery_rl_published,multi_task_published,mesa_published,mesa_published_rate
  released inputs mesa_published --risk_inputs=standardized
  released target mesa_published --risk_next_action=reference --maml_target_rate=1 \
    --maml_outer_target=adapted --finetune_target_rate=1
  released outer mesa_published --maml_outer_lr=1e-3 --maml_outer_lr_end=0.01
  released network mesa_published --risk_hidden=64,64 --risk_weights=plain
  released recovery mesa_published --maml_recovery=meta
  released body mesa_published --data_adaptation_body=same
}

paper_sizes() {  # an hour and more of one core each
  # the line without an anchor is navigation1 with --maml_anchor=0
  methods="unconstrained,recovery_rl,multi_task,multi_task_few,mesa"
  for domain in navigation1 navigation2; do
    $python -m experiments.run --domain=$domain --preset=paper --seeds=3 --methods=$methods \
      --workdir=runs/paper-$domain
  done
}

risk_error_earlier() {  # 5 minutes of one core a meta-seed and distribution
  methods=recovery_rl,multi_task,multi_task_few,mesa,context,mesa_context,system_id,oracle
  for meta_seed in 0 1 2; do
    for where in navigation1-{published,rotation} cartpole_length-actuator \
      navigation2-{published,wind,rotation,out_of_support}; do
      $python -m experiments.evaluate --domain=${where%-*} --tasks=${where#*-} --seeds=12 \
        --meta_seed=$meta_seed --quality_transitions=20,50,200 --methods=$methods \
        --workdir=runs/earlier/$where
    done
  done
  cells=mesa:5,multi_task_few:5,context:0,mesa_context:0,mesa_context:5,mesa_context:own
  $python -m experiments.tabulate --transitions=20,200 --cells=$cells \
    --workdirs="$(joined runs/earlier/*)"
}

online_20_transitions() {  # two hours and a half of one core
  for tasks in wind out_of_support; do
    by_three $tasks --domain=navigation1 --tasks=$tasks --data_adaptation=20 --methods=$six
  done
  for level in "" --recovery_false_safe=0.05; do
    $python -m experiments.online --domain=navigation2 --tasks=flip --data_adaptation=50 \
      --seeds=10 --meta_seed=2 --methods=mesa,context,mesa_context $level \
      --workdir="runs/read-flip2$level"
  done
}

fault_reversed() {  # 35 minutes of one core
  by_three reversed --domain=navigation1 --tasks=flip $fault --methods=$six,mesa_readapting
}

readaptation() {  # half an hour of one core
  for pair in "100 100" "50 50" "20 50" "20 20" "10 50" "10 20"; do
    read -r every count <<<"$pair"
    $python -m experiments.online --domain=navigation1 --tasks=flip $fault --seeds=400:416 \
      --methods=mesa_readapting,context,mesa_context --online_readapt_every=$every \
      --online_readapt_transitions=$count --online_readapt_from=prior \
      --workdir="runs/read-$every-$count"
  done
}

half_cheetah_horizon() {  # two half hours, then an hour and a half, of one core
  $python -m experiments.tune --domain=halfcheetah_disabled --tasks=published --settings=1 \
    --horizons=0.25,1,2.5 --methods=recovery_rl,multi_task,mesa \
    --workdir=runs/halfcheetah-horizon
  $python -m experiments.online --workdir=runs/halfcheetah-horizon --seeds=5 \
    --methods=unconstrained,recovery_rl,multi_task,mesa
  $python -m experiments.tune --domain=halfcheetah_disabled --tasks=impaired --settings=1 \
    --horizons=1,2.5 --methods=recovery_rl,multi_task,mesa,context,mesa_context \
    --workdir=runs/impaired
}

half_cheetah_impaired() {  # an hour and a quarter of one core, after half_cheetah_horizon
  all=unconstrained,recovery_rl,multi_task,mesa,context,mesa_context
  $python -m experiments.online --workdir=runs/impaired --methods=$all --seeds=5
  $python -m experiments.run --domain=halfcheetah_disabled --tasks=impaired \
    --fault=reversed:part=1,onset=6000 --online_steps=12000 --methods=$all --seeds=5 \
    --workdir=runs/impaired_fault
  $python -m experiments.online --domain=halfcheetah_disabled --tasks=impaired \
    --methods=unconstrained,recovery_rl --seeds=5 --workdir=runs/again
  $python -m experiments.online --domain=halfcheetah_disabled --tasks=impaired --seeds=3 \
    --methods=unconstrained,multi_task --online_steps=12000 --quality_rollouts=4 \
    --workdir=runs/film
  $python -m experiments.render --workdir=runs/film --method=unconstrained,multi_task --seed=2 \
    --episode=30
}

ant_impaired() {  # more than two hours of one core
  ant="--domain=ant_disabled --tasks=impaired"
  $python -m experiments.tune $ant --horizons=1 --settings=1 --quality_rollouts=8 \
    --methods=recovery_rl,multi_task,mesa,context,mesa_context --quality_decision_states=50 \
    --workdir=runs/ant-tune
  $python -m experiments.online $ant --methods=$six --seeds=5 --workdir=runs/ant-impaired
  $python -m experiments.filter_test $ant --risk_horizon=1 --methods=multi_task --bodies=8 \
    --workdir=runs/ant-switch
  $python -m experiments.filter_test $ant --risk_horizon=2.5 --methods=multi_task --bodies=8 \
    --risk_hidden=128,128 --recovery_hidden=128,128 --risk_ensemble_size=2 \
    --quality_rollouts=4 --quality_decision_states=20 --workdir=runs/ant-longer
  $python -m experiments.filter_test $ant --risk=avoid --risk_horizon=1 --methods=multi_task \
    --bodies=8 --risk_hidden=128,128 --recovery_hidden=128,128 --recovery_objective=logit \
    --risk_ensemble_size=2 --risk_error=entropy --recovery_lr=0 --rounds_count=3 \
    --rounds_longest=10 --rounds_every=40 --rounds_hold=10 --workdir=runs/ant-avoid
  for steps in 5 20 50 100; do
    $python -m experiments.filter_test $ant --risk_horizon=1 --methods=multi_task --bodies=8 \
      --look_ahead=$steps --workdir=runs/ant-room
  done
}

cartpole_avoid() {  # an hour of one core
  $python -m experiments.tune --domain=cartpole_length --tasks=actuator --risk=avoid \
    --horizons=4 --settings=1 --methods=recovery_rl,multi_task,mesa,context,system_id \
    --workdir=runs/cartpole-tune
  $python -m experiments.run --domain=cartpole_length --tasks=actuator --risk=avoid \
    --online_steps=6000 --online_episodes=1000 --seeds=10 \
    --methods=unconstrained,recovery_rl,multi_task,mesa,context,system_id \
    --workdir=runs/cartpole
  $python -m experiments.render --workdir=runs/cartpole --method=unconstrained,context \
    --seed=0 --episode=2
  $python -m experiments.filter_test --workdir=runs/cartpole --bodies=16 \
    --methods=recovery_rl,multi_task,mesa,context,system_id
  $python -m experiments.run --domain=cartpole_length --tasks=actuator --risk=avoid \
    --online_steps=4000 --online_episodes=1000 --fault=reversed:part=0,onset=2000 \
    --methods=unconstrained,recovery_rl,multi_task,mesa,context --seeds=10 \
    --workdir=runs/cartpole-fault
  $python -m experiments.run --domain=cartpole_length --tasks=actuator --risk=avoid \
    --maml_steps=3000 --online_steps=4000 --methods=unconstrained,context,system_id \
    --recovery_risk_threshold=0.15 --recovery_lr=0 --online_readapt_every=0 --seeds=300:304 \
    --workdir=runs/cartpole-once
}

baselines() {  # an hour and a half of one core
  local flip="--domain=navigation1 --tasks=flip --data_adaptation=50" begun=""
  for agent in lagrangian sqrl rcpo conservative; do
    begun+="${begun:+,}${agent}_multi_task,${agent}_mesa"
  done
  $python -m experiments.online $flip --seeds=10 --workdir=runs/constrained \
    --methods=lagrangian,sqrl,rspo,rcpo,conservative,reward_penalty
  by_three begun $flip --methods=$begun
  by_three planning $flip --methods=carl,carl_reward
  $python -m experiments.online --domain=navigation1 --tasks=flip $fault --seeds=10 --methods=carl \
    --workdir=runs/planning-reversed
  local pole="--domain=cartpole_length --tasks=actuator --online_episodes=1000 --seeds=10"
  $python -m experiments.online $pole --online_steps=6000 --methods=carl,carl_reward \
    --workdir=runs/planning-cartpole
}

guarded_agents() {  # 4 minutes of one core; extras gymnasium and sb3
  $python -m experiments.examples.sb3_guard --workdir=runs/sb3_guard
}

pages=$(sed -nE 's/^([a-z_0-9]+)\(\) \{  # .*/\1/p' "experiments/commands.sh")
if [ $# = 0 ]; then
  sed -nE 's/^([a-z_0-9]+)\(\) \{  # (.*)/\1: \2/p' "experiments/commands.sh"
fi
for page in "$@"; do
  if ! grep -qx -- "$page" <<<"$pages"; then
    echo "Error: there is no page $page; there are:" $pages >&2
    exit 2
  fi
done
for page in "$@"; do "$page"; done

"""Starts one launch as a Kubernetes JobSet, a process a pod.

python -m experiments.launch.kubernetes --image=IMAGE --pods=2 --gpus_per_pod=8 --claim=runs -- run --workdir=/runs/mine

The image holds an installed mesa_jax (its command is mesa-jax); the workdir is a path on the claimed volume.
--dry_run prints the manifest (JSON), which `kubectl apply` gets otherwise.
"""  # noqa: E501, a command is one line

import json
from typing import Any

from absl import flags as absl_flags

from .. import flags
from ..whole import define_integer
from . import commands

FLAGS = absl_flags.FLAGS
PORT = 8476  # of process 0, in its pod
WORKERS, VOLUME = "workers", "workdirs"
INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def manifest(words: tuple[str, ...]) -> dict[str, Any]:
    """Returns the JobSet of a launch.

    Args:
      words: the launch and its flags.

    Raises:
      SettingError: if no image or no claim is given.
    """
    pods, name = FLAGS.pods, FLAGS.name
    job = {
        "parallelism": pods,
        "completions": pods,
        "completionMode": "Indexed",
        "backoffLimit": 0,  # one that failed ends all; the JobSet starts all again
        "template": {"spec": _pod(words)},
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": {"maxRestarts": FLAGS.restarts},
            "network": {"enableDNSHostnames": True, "subdomain": name},
            "replicatedJobs": [
                {"name": WORKERS, "replicas": 1, "template": {"spec": job}}
            ],
        },
    }


def _pod(words: tuple[str, ...]) -> dict[str, Any]:
    name = FLAGS.name
    given = [word.replace("$(", "$$(") for word in words]  # no variables of theirs
    command = ["mesa-jax", *given]
    if FLAGS.pods > 1:
        command += [
            f"--coordinator={name}-{WORKERS}-0-0.{name}:{PORT}",
            f"--processes={FLAGS.pods}",
            "--process=$(PROCESS)",
        ]
    container = {
        "name": "launch",
        "image": commands.needed("image"),
        "command": command,
        "ports": [{"containerPort": PORT}],
        "env": [
            {"name": "PROCESS", "valueFrom": {"fieldRef": {"fieldPath": INDEX}}},
        ],
        "volumeMounts": [{"name": VOLUME, "mountPath": FLAGS.mount}],
    }
    if FLAGS.gpus_per_pod:
        container["resources"] = {"limits": {"nvidia.com/gpu": FLAGS.gpus_per_pod}}
    claim = {"claimName": commands.needed("claim")}
    return {
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [{"name": VOLUME, "persistentVolumeClaim": claim}],
    }


def main(*words: str) -> None:
    text = json.dumps(manifest(commands.checked(words)), indent=2) + "\n"
    commands.start(["kubectl", "apply", "-f", "-"], text)


if __name__ == "__main__":
    commands.define()
    absl_flags.DEFINE_string("image", None, "with mesa_jax installed (required)")
    absl_flags.DEFINE_string("claim", None, "volume claim of the workdirs (required)")
    absl_flags.DEFINE_string("mount", "/runs", "where the volume lies in the pods")
    absl_flags.DEFINE_string("name", "mesa-jax", "of the JobSet")
    define_integer("pods", 1, "how many pods", 1, commands.LIMIT)
    define_integer("gpus_per_pod", 0, "GPUs of a pod; 0 for none", 0, 1024)
    define_integer("restarts", 10, "how often all pods are started again", 0, 1000)
    flags.run(main, "LAUNCH", "...", paths=False)

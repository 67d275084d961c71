"""The Ray clusters of ``deploy/`` as Ray itself understands them, and training's launcher."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.deploying import PROJECT, Manifest, everything, of_file, parse, templates, words_of
from vidvec.pipeline.bulk.pool import PoolSize, room

JOBS = {name: each for name, each in everything().items() if each["kind"] == "RayJob"}
PINS = dict(
    line.split("==", 1)
    for line in (PROJECT / "constraints.txt").read_text("utf-8").splitlines()
    if "==" in line and not line.startswith("#")
)


def _understood(job: Manifest) -> dict[str, dict]:
    """Groups of nodes as the autoscaler of Ray takes them from a RayCluster."""
    config = pytest.importorskip("ray.autoscaler._private.kuberay.autoscaling_config")
    cluster = {
        "metadata": {"name": "made", "namespace": "vidvec"},
        "spec": job["spec"]["rayClusterSpec"],
    }
    return config._derive_autoscaling_config_from_ray_cr(cluster)["available_node_types"]


@pytest.mark.parametrize("name", JOBS)
def test_rays_autoscaler_takes_the_cluster(name):
    groups = _understood(JOBS[name])
    assert groups.pop("headgroup")["resources"]["CPU"] == 0  # it has other things to do
    ((group, found),) = groups.items()
    (workers,) = JOBS[name]["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    # All are there when the job begins, and go when they have nothing to do.
    assert 0 == found["min_workers"] < workers["replicas"] == found["max_workers"]
    assert found["resources"].get("GPU", 0) == (group == "gpu")


@pytest.mark.parametrize("name", JOBS)
def test_its_machines_have_room_for_vidvecs_workers(name):
    """As vidvec counts it: two CPUs for each that reads files, a GPU for each that embeds."""
    groups = _understood(JOBS[name])
    embeds = "embed" in name
    nodes = [{"Alive": True, "Resources": each["resources"]} for each in groups.values()]
    size = PoolSize(workers=0, cpus=1 if embeds else 2, gpus=1 if embeds else 0)
    assert room(SimpleNamespace(nodes=lambda: nodes), size) == (1 if embeds else 4)
    if not embeds:
        files = 4 * parse(words_of(JOBS[name]["spec"]["entrypoint"])).get("workers", 2)
        assert files * 4096 * 2**20 <= groups["cpu"]["resources"]["memory"]


def test_rays_autoscaler_refuses_a_group_without_cpus():
    """That it takes the clusters above means something."""
    job = of_file("ray-ingest.yaml", "RayJob")
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    group["template"]["spec"]["containers"][0]["resources"] = {}
    with pytest.raises(ValueError, match="failed to detect `CPU`"):
        _understood(job)


@pytest.mark.parametrize("name", JOBS)
def test_all_nodes_run_what_is_pinned(name):
    cluster = JOBS[name]["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == PINS["ray"]
    policy = of_file("ray-network.yaml", "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]
    for group, template in templates(JOBS[name]):
        assert template["metadata"]["labels"] == policy
        (container,) = template["spec"]["containers"]
        gpu = "nvidia.com/gpu" in container["resources"]["limits"]
        assert gpu == (group == "gpu") == container["image"].endswith("-gpu")


def test_the_launcher_of_training_takes_its_options():
    from torch.distributed.run import get_args_parser

    job, service = of_file("train.yaml", "Job"), of_file("train.yaml", "Service")
    pod = job["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    given = get_args_parser().parse_args(container["args"])
    nodes = job["spec"]["completions"]
    assert (given.nnodes, nodes) == (str(nodes), job["spec"]["parallelism"])
    assert given.nproc_per_node == container["resources"]["limits"]["nvidia.com/gpu"]
    assert given.max_restarts > 0
    assert given.module
    assert given.training_script_args[0] == "pretrain"
    # The first pod's name, which the headless Service makes known before it is ready.
    name = f"{job['metadata']['name']}-0.{pod['spec']['subdomain']}"
    port = container["ports"][0]["containerPort"]
    assert (given.rdzv_backend, given.rdzv_endpoint) == ("c10d", f"{name}:{port}")
    assert f"getent hosts {name};" in pod["spec"]["initContainers"][0]["command"][-1]
    assert service["metadata"]["name"] == pod["spec"]["subdomain"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert job["spec"]["completionMode"] == "Indexed"

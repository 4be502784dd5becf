"""A study's trainings are equal to the bit wherever they run: in one process, in two, or on a machine that is lost."""

import os
import sys
import time
from pathlib import Path

import pytest

from tactician.studies.engine_local import LocalEngine
from tactician.studies.fold_job import train_fold
from tests.studies.walk_forwards import tiny_study

for name, value in {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}.items():
    os.environ.setdefault(name, value)
ray = pytest.importorskip("ray", reason="Ray is in the extra 'cluster'")
pytest.importorskip("ray.cluster_utils", reason="Ray is in the extra 'cluster'")

pytestmark = pytest.mark.slow  # the engine's own test loses a machine too

HERE = str(Path(__file__).parents[2])


@pytest.fixture(scope="module")
def study(tiny_longer, tmp_path_factory):
    return tiny_study(tiny_longer, tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def in_one_process(study):
    return {study.jobs[k].name: result for k, result in LocalEngine(1).run(train_fold, study.jobs, study.market)}


def without_durations(result):
    """Everything that a training found, the model's bytes included; repr, so that NaN equals itself."""
    metrics = {name: x for name, x in result["metrics"].items() if not name.startswith(("seconds", "steps_per_second"))}
    return {**{name: x for name, x in result.items() if name != "seconds"}, "metrics": repr(metrics)}


def same(results, others):
    assert results.keys() == others.keys() and len(results) == 4
    return all(without_durations(results[name]) == without_durations(others[name]) for name in results)


def test_two_processes_find_what_one_finds(study, in_one_process):
    results = {study.jobs[k].name: result for k, result in LocalEngine(2).run(train_fold, study.jobs, study.market)}
    assert same(results, in_one_process)
    assert len({result["model"] for result in results.values()}) == 4  # and each training is another


@pytest.fixture
def cluster(monkeypatch):
    """Two machines of one core each, played on this one, and this process connected to them."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([f"{HERE}/src", HERE, *filter(None, [os.environ.get("PYTHONPATH")])])
    )
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    small = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    made = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    other = made.add_node(**small)
    made.wait_for_nodes()
    yield made, other
    if ray.is_initialized():
        ray.shutdown()
    made.shutdown()


def train_where_it_is_told(job, given):
    """The training, after a note of the machine on which it begins."""
    market, notes = given
    (notes / f"{job.name}@{ray.get_runtime_context().get_node_id()}").touch()
    time.sleep(2)  # so that there is time to take the machine away
    return train_fold(job, market)


def begun_just_now(notes, machine):
    """The training that has begun on a machine within the last second."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for note in notes.iterdir():
            name, _, where = note.name.partition("@")
            if where == machine and time.time() - note.stat().st_mtime < 1:
                return name
        time.sleep(0.05)
    raise AssertionError("nothing begins on the second machine")


@pytest.mark.skipif(sys.platform == "win32", reason="Ray plays no second machine on Windows")
def test_a_cluster_that_loses_a_machine_finds_what_one_process_finds(study, in_one_process, cluster, tmp_path):
    from tactician.studies.engine_ray import RayEngine

    made, other = cluster
    engine, results, lost = RayEngine(made.address, None, False), {}, ""
    for k, result in engine.run(train_where_it_is_told, study.jobs, (study.market, tmp_path)):
        if not results:
            assert engine.slots == 2
            lost = begun_just_now(tmp_path, other.node_id)
            made.remove_node(other, allow_graceful=False)
        results[study.jobs[k].name] = result
    begun_on = [note.name.partition("@")[2] for note in tmp_path.glob(f"{lost}@*")]
    assert len(begun_on) == 2 and other.node_id in begun_on  # it was lost, and done again elsewhere
    assert same(results, in_one_process)

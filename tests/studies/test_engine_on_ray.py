"""The engine on a real Ray cluster: the same results to the bit when a machine is lost, and no word of Ray's to the user."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tactician.errors import UserError
from tactician.studies.engine import attempt, make_engine
from tactician.studies.engine_ray import attempt_there
from tactician.training.checkpoint import versions
from tests.studies import engine_jobs

pytest.importorskip("ray", reason="Ray is in the extra 'cluster'")

STUDY = """
    import sys, time
    from contextlib import closing
    from tactician.studies.engine import make_engine
    from tests.studies import engine_jobs

    if __name__ == "__main__":
        engine = make_engine("ray", address=sys.argv[1])
        shared = {"target": 1.5}
        results, n = {}, 0
        with closing(engine.run(engine_jobs.wait_and_learn, [7, 1, 8, 2], shared)) as running:
            for k, result in running:
                results[k], n = result, n + 1
                print("finished", n, flush=True)
                if n == 1:
                    sys.stdin.readline()
        lazy = dict(engine.run(engine_jobs.learn, iter([7, 1]), shared))
        print([lazy[k][0].hex() for k in range(2)])
        print(engine.slots, [results[k][0].hex() for k in range(4)], {threads for _, threads in results.values()})
        try:
            dict(engine.run(engine_jobs.fail, [0, 1, 2], None))
        except Exception as error:
            print(type(error).__name__, error)
    """


@pytest.fixture
def cluster(monkeypatch):
    """Two machines of one core each, played on this one."""
    from ray.cluster_utils import Cluster

    here = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(here / "src"), str(here)]))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    small = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    made = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    made.other = made.add_node(**small)
    made.wait_for_nodes()
    yield made
    made.shutdown()


@pytest.mark.slow
def test_a_machine_that_is_lost_changes_no_bit_and_the_user_reads_nothing_of_it(cluster, tmp_path):
    script = tmp_path / "study.py"
    script.write_text(textwrap.dedent(STUDY))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    study = subprocess.Popen([sys.executable, str(script), cluster.address], **pipes)
    assert study.stdout.readline() == "finished 1\n"
    cluster.remove_node(cluster.other, allow_graceful=False)  # in the middle of a job
    said, complaints = study.communicate("go on\n", timeout=120)
    here = [attempt(engine_jobs.learn, job, {"target": 1.5}).get()[0].hex() for job in (7, 1, 8, 2)]
    assert complaints == "" and said.splitlines() == [
        "finished 2",
        "finished 3",
        "finished 4",
        f"{here[:2]}",
        f"2 {here} {{1}}",
        "UserError the file x.csv has no column 'date'",
    ]


def test_a_machine_with_another_torch_is_refused_because_it_would_round_differently():
    outcome = attempt_there({**versions(), "torch": "1.0"}, engine_jobs.learn, 1, {"target": 1.5})
    with pytest.raises(UserError, match=r"has torch .*, and this machine has 1\.0; install the same"):
        outcome.get()
    assert attempt_there(versions(), engine_jobs.learn, 1, {"target": 1.5}).mistake is None


def test_an_address_where_nobody_listens_is_told_at_once():
    with pytest.raises(UserError, match=r"There is no Ray cluster at 127\.0\.0\.1:1 .*ray start --head"):
        list(make_engine("ray", address="127.0.0.1:1").run(engine_jobs.learn, [1], None))

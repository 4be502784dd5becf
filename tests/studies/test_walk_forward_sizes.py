"""A study that goes on keeps the sizes of its trainings, whatever the machine would choose today."""

from tactician.config import load_config
from tactician.environment import load_cached_market
from tactician.storage import save_tensors
from tactician.studies.folds import make_folds
from tactician.studies.walk_forward import plan_study, run_study


class Pretending:
    """An engine whose trainings find nothing."""

    slots = 1

    def run(self, work, jobs, shared):
        yield from ((k, {"key": job.key}) for k, job in enumerate(jobs))


def planned(tiny, folder, **changes):
    config = load_config(tiny, changes)
    market = load_cached_market(config, "build-cache")
    return plan_study(config, market, make_folds(market, 2, episode_length=32, purge=20), 1, folder)[0]


def test_a_study_that_goes_on_has_the_sizes_it_began_with(tiny, tmp_path):
    study = planned(tiny, tmp_path, n_envs=None)
    smaller = study.config.model_copy(update={"n_envs": 16})
    assert study.config.n_envs != 16
    begun = type(study)(smaller, study.market, study.folds, study.seeds, tmp_path, study.asked)
    list(run_study(begun, Pretending(), {}))
    assert planned(tiny, tmp_path, n_envs=None).config.n_envs == 16
    assert [job.key for job in planned(tiny, tmp_path, n_envs=None).jobs] == [job.key for job in begun.jobs]


def test_sizes_that_are_asked_for_now_go_before(tiny, tmp_path):
    study = planned(tiny, tmp_path, n_envs=None)
    list(run_study(study, Pretending(), {}))
    assert planned(tiny, tmp_path, n_envs=24).config.n_envs == 24


def test_a_file_of_another_kind_gives_no_sizes(tiny, tmp_path):
    save_tensors({"format": "another"}, tmp_path / "fold_1_seed_0.pt")
    assert planned(tiny, tmp_path).config.n_envs == 8


def test_the_device_is_settled_before_jobs_go_to_other_machines(tiny, tmp_path):
    assert planned(tiny, tmp_path, device="auto").config.device in ("cpu", "cuda")

"""The configurations of diffusers' schedulers: read with diffusers' tables, or refused by name; swapped without losses."""

import json
import math
import random
import re

import diffusers
import numpy as np
import pytest
import torch

from diffusion_course import latent_levels, make_scheduler
from diffusion_course.files.pretrained import data_dir
from diffusion_course.latent import SCHEDULERS
from diffusion_course.latent.folders import read_process
from diffusion_course.latent.schedulers import OFF, defaults_of, read_scheduler

# diffusers calls np.array on tensors
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

CLASSES = [name for name in diffusers.DDIMScheduler._compatibles if defaults_of(name)]
BASE = json.loads((data_dir() / "mini-stable-diffusion/scheduler/scheduler_config.json").read_text(encoding="utf-8"))
VALUES = {
    "num_train_timesteps": [50, 1000, 300, 0, "1000", True],
    "beta_start": [1e-4, 0.00085, 0.0015, 0, "0.1", 1, True],
    "beta_end": [0.012, 0.02, 0.0195, 1.5, None],
    "beta_schedule": ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace", "exp", "cosine", None],
    "trained_betas": [None, None, [0.01] * 50, torch.linspace(1e-4, 0.02, 1000).tolist(), "none", [[0.1]], [0.1, 2.0]],
    "prediction_type": ["epsilon", "v_prediction", "sample", "flow_prediction", "score", 3],
    "rescale_betas_zero_snr": [True, False, True, None, "false"],
    "set_alpha_to_one": [True, False, "false", 1],
    "steps_offset": [0, 1, 3, -1, 1.5, True],
    "timestep_spacing": ["leading", "trailing", "linspace", "karras"],
    "clip_sample": [True, False], "clip_sample_range": [1.0, 2.0], "skip_prk_steps": [True],
    "solver_order": [2, 3], "sample_max_value": [1.0],
} | {name: [*harmless, "other"] for name, harmless in OFF.items()}


def random_config(seed):
    """A class, each of its settings left out half the time, sometimes one of another class or a misspelt one."""
    draw = random.Random(seed)
    name = draw.choice(CLASSES)
    config = {"_class_name": name}
    for field, values in VALUES.items():
        known = field in defaults_of(name)
        if draw.random() < (0.5 if known else 0.05):
            # mostly the first values, which are in order, so that many of the configurations are accepted
            config[field] = draw.choice(values[:3] if draw.random() < 0.97 else values)
    if draw.random() < 0.03:
        config[draw.choice(["beta_strat", "timestep_spacin", "Prediction_type"])] = 0.1
    return config


def accepted(seed):
    try:
        return read_scheduler(random_config(seed))
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("seeds", [range(first, first + 50) for first in range(0, 250, 50)], ids=lambda r: f"from {r[0]}")
def test_a_random_configuration_has_diffusers_tables_or_is_refused_by_a_settings_name(seeds):
    count = 0
    for seed in seeds:
        config, found = random_config(seed), accepted(seed)
        if isinstance(found, str):
            assert any(name in found for name in config), (config, found)
            continue
        count += 1
        theirs = getattr(diffusers, config["_class_name"]).from_config(config)
        bars = found["schedule"].alphas_cumprod
        assert (bars - theirs.alphas_cumprod).abs().max() < 1e-6, config
        assert found["prediction_type"] == theirs.config.prediction_type
        assert found["steps_offset"] == theirs.config.get("steps_offset", 0)
        assert found["spacing"] == config.get("timestep_spacing")
        assert found["ends_clean"] == theirs.config.get("set_alpha_to_one", True)
        if hasattr(theirs, "final_alpha_cumprod"):
            assert abs((1 if found["ends_clean"] else bars[0]) - theirs.final_alpha_cumprod) < 1e-6
    assert count >= 10


@pytest.mark.parametrize("name", CLASSES)
def test_what_is_left_out_has_the_default_of_the_class(name):
    found, theirs = read_scheduler({"_class_name": name}), getattr(diffusers, name)()
    assert (found["schedule"].alphas_cumprod - theirs.alphas_cumprod).abs().max() < 1e-6
    assert found["ends_clean"] == theirs.config.get("set_alpha_to_one", True) == (name != "PNDMScheduler")
    assert found["schedule"].betas[0].item() == pytest.approx(theirs.config.beta_start)


def test_betas_of_a_training_are_rescaled_too():
    betas = torch.linspace(1e-4, 0.02, 1000).tolist()
    found = read_scheduler(BASE | {"trained_betas": betas, "rescale_betas_zero_snr": True})
    assert found["schedule"].alphas_cumprod[-1] == 0
    assert found["schedule"].zero_terminal_snr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta_strat": 1}, r"no scheduler has a setting 'beta_strat'; did you mean 'beta_start'\?"),
        ({"thresholding": True}, "thresholding is True: this course's samplers do not follow that"),
        ({"rescale_betas_zero_snr": "false"}, "rescale_betas_zero_snr must be true or false, got str 'false'"),
        ({"steps_offset": -1}, "steps_offset must be a whole number >= 0, got int -1"),
        ({"trained_betas": [0.1] * 3}, r"trained_betas must have num_train_timesteps=1000 entries, got shape \(3,\)"),
        ({"trained_betas": ["a"]}, "trained_betas must be a list of numbers, got list"),
        ({"beta_schedule": "sigmoid"}, "beta_schedule 'sigmoid' is not known to DDIMScheduler"),
        ({"beta_start": None}, "beta_start must be a number, got NoneType None"),
        ({"beta_start": math.nan}, "beta_start must be a number, got float nan"),
        ({"_class_name": "EDMEulerScheduler"}, "_class_name must be one of DDIMScheduler, .*got str 'EDMEulerScheduler'"),
        ({"_class_name": "PNDMScheduler", "rescale_betas_zero_snr": True}, "rescale_betas_zero_snr is True, which PNDMScheduler"),
        ({"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"}, "timestep_type is 'continuous'"),
    ],
)
def test_a_refusal_names_the_setting_and_the_file(tmp_path, change, message):
    (tmp_path / "scheduler").mkdir()
    file = tmp_path / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(BASE | change), encoding="utf-8")
    with pytest.raises(ValueError, match=f"the scheduler in {re.escape(str(file))} cannot be read.*: {message}"):
        read_process(tmp_path, "")


def test_the_class_is_that_of_the_file_or_else_of_the_index_and_both_must_agree_where_it_matters(tmp_path):
    (tmp_path / "scheduler").mkdir()
    file, index = tmp_path / "scheduler" / "scheduler_config.json", tmp_path / "model_index.json"
    few = {name: BASE[name] for name in ("beta_schedule", "beta_start", "beta_end")}
    file.write_text(json.dumps(few), encoding="utf-8")
    with pytest.raises(ValueError, match="_class_name must be one of .*got NoneType None"):
        read_process(tmp_path, "")
    index.write_text(json.dumps({"scheduler": ["diffusers", "PNDMScheduler"]}), encoding="utf-8")
    assert read_process(tmp_path, "")["ends_clean"] is False
    file.write_text(json.dumps(few | {"_class_name": "DDIMScheduler"}), encoding="utf-8")
    with pytest.raises(ValueError, match="names DDIMScheduler, model_index.json PNDMScheduler, .* differ in ends_clean"):
        read_process(tmp_path, "")
    file.write_text(json.dumps(few | {"_class_name": "DDIMScheduler", "set_alpha_to_one": False}), encoding="utf-8")
    assert read_process(tmp_path, "")["ends_clean"] is False


# --- swapping ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("source", ["DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "HeunDiscreteScheduler"])
def test_a_swap_keeps_how_the_network_was_trained(name, source):
    for change in ({}, {"rescale_betas_zero_snr": True}, {"beta_schedule": "sigmoid"}, {"trained_betas": [0.01] * 1000}):
        config = {"_class_name": source, "prediction_type": "v_prediction"} | change
        try:
            before = read_scheduler(config)
        except ValueError:
            continue  # a class that does not know it
        for given in (config, getattr(diffusers, source).from_config(config).config):
            after = make_scheduler(name, given)
            assert type(after).__name__ == SCHEDULERS[name][0]
            assert (after.alphas_cumprod - before["schedule"].alphas_cumprod).abs().max() < 1e-6, change
            assert after.config.prediction_type == "v_prediction"
            assert read_scheduler(after.config)["prediction_type"] == "v_prediction"
            if name == "ddim":
                assert after.config.set_alpha_to_one == before["ends_clean"]
                assert after.config.clip_sample == ("clip_sample" in defaults_of(source) and source != "HeunDiscreteScheduler")
            again = make_scheduler("ddim", after.config)
            assert (again.alphas_cumprod - before["schedule"].alphas_cumprod).abs().max() < 1e-6, change


@pytest.mark.parametrize("name", SCHEDULERS)
def test_pure_noise_at_the_end_is_finite_in_every_scheduler(name):
    scheduler = make_scheduler(name, BASE | {"rescale_betas_zero_snr": True})
    scheduler.set_timesteps(5)
    x = scheduler.init_noise_sigma * torch.ones(1, 4, 2, 2)
    for t in scheduler.timesteps:
        assert torch.isfinite(x).all()
        output = torch.zeros_like(scheduler.scale_model_input(x, t))
        x = scheduler.step(output, t, x).prev_sample


def test_changes_win_and_a_misspelt_one_is_refused():
    assert make_scheduler("dpmpp_2m", BASE, solver_order=3).config.solver_order == 3
    assert make_scheduler("ddim", BASE, timestep_spacing="leading").config.timestep_spacing == "leading"
    assert make_scheduler("heun", BASE, rescale_betas_zero_snr=True).alphas_cumprod[-1] < 1e-7
    with pytest.raises(TypeError, match="DDIMScheduler has no setting 'timestep_spacin'; did you mean 'timestep_spacing'"):
        make_scheduler("ddim", BASE, timestep_spacin="leading")
    with pytest.raises(TypeError, match="EulerDiscreteScheduler has no setting 'solver_order'"):
        make_scheduler("euler", BASE, solver_order=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction_type": "eps"}, "prediction_type must be one of 'epsilon', 'sample', 'v_prediction', got str 'eps'"),
        ({"timestep_spacing": "even"}, "timestep_spacing must be one of 'linspace'.*got str 'even'"),
        ({"beta_start": "small"}, "beta_start must be a number, got str 'small'"),
        ({"beta_schedule": "cosine"}, "beta_schedule must be one of 'linear'.*got str 'cosine'"),
        ({"num_train_timesteps": 0}, "num_train_timesteps must be an int >= 1, got int 0"),
        ({"trained_betas": [2.0]}, "trained_betas must have num_train_timesteps=1000 entries"),
    ],
)
def test_a_change_that_diffusers_cannot_use_is_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        make_scheduler("ddim", BASE, **change)


def test_what_would_change_nothing_or_get_lost_is_said():
    trained = BASE | {"trained_betas": [0.01] * 1000}
    with pytest.raises(ValueError, match=r"beta_start=0.1 changes nothing beside the trained_betas"):
        make_scheduler("ddim", trained, beta_start=0.1)
    assert make_scheduler("ddim", trained, beta_start=0.001, trained_betas=None).config.beta_start == 0.001
    with pytest.warns(UserWarning, match="EulerDiscreteScheduler does not know clip_sample=True, thresholding=True"):
        make_scheduler("euler", BASE | {"thresholding": True, "clip_sample": True})
    with pytest.raises(ValueError, match=r"no scheduler has a setting 'beta_strat'; did you mean 'beta_start'\?"):
        make_scheduler("ddim", BASE | {"beta_strat": 0.1})
    with pytest.raises(TypeError, match=r"config must be that of a scheduler, as scheduler.config, got DDIMScheduler"):
        make_scheduler("ddim", diffusers.DDIMScheduler())


def test_times_are_those_of_the_offset(tmp_path):
    from tiny_stable_diffusion import tiny_parts

    found = read_scheduler(BASE | {"timestep_spacing": "leading", "steps_offset": 3})
    parts = tiny_parts(**found)
    theirs = diffusers.DDIMScheduler.from_config(BASE | {"timestep_spacing": "leading", "steps_offset": 3})
    theirs.set_timesteps(7)
    assert [level.t for level in latent_levels(parts, 7, "ddim")][:-1] == theirs.timesteps.tolist()


def test_values_that_change_nothing_are_taken():
    assert make_scheduler("euler", BASE, clip_sample=False).config == make_scheduler("euler", BASE).config
    made = make_scheduler("euler", BASE, timestep_spacing=None)
    assert made.config.timestep_spacing == "linspace"  # the class's own
    assert make_scheduler("ddim", BASE | {"timestep_spacing": None}).config.timestep_spacing == "leading"
    with pytest.raises(TypeError, match="EulerDiscreteScheduler has no setting 'clip_sample'"):
        make_scheduler("euler", BASE, clip_sample=True)
    with pytest.raises(TypeError, match="EulerDiscreteScheduler has no setting 'clip_sample'"):
        make_scheduler("euler", BASE, clip_sample=0)


def test_configurations_published_in_2022_are_read():
    old = BASE | {"timestep_values": None, "predict_epsilon": True}
    assert torch.equal(make_scheduler("ddim", old).betas, make_scheduler("ddim", BASE).betas)
    assert read_scheduler(old)["prediction_type"] == BASE["prediction_type"]
    with pytest.raises(ValueError, match=r"predict_epsilon is bool False, .* Write prediction_type='sample'"):
        make_scheduler("ddim", BASE | {"predict_epsilon": False})
    with pytest.raises(ValueError, match=r"timestep_values is list \[1\], a setting of 2022"):
        read_scheduler(BASE | {"timestep_values": [1]})


@pytest.mark.parametrize(
    "name", ["EDMEulerScheduler", "CogVideoXDDIMScheduler", "SASolverScheduler", "FlowMatchEulerDiscreteScheduler",
             "ScoreSdeVeScheduler"],
)
def test_a_class_that_cannot_be_translated_is_named(name):
    with pytest.raises(ValueError, match=f"is a setting of .*{name}.*, which cannot be translated"):
        make_scheduler("ddim", getattr(diffusers, name)().config)  # without the class's name
    for config in ({"_class_name": name}, {"_class_name": "UnCLIPScheduler"}):
        with pytest.raises(ValueError, match=f"_class_name is '{config['_class_name']}', which cannot be translated"):
            make_scheduler("ddim", config)


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        ("ddim", {"steps_offset": "1"}, TypeError, "steps_offset must be an int, got str '1'"),
        ("ddim", {"steps_offset": -1}, ValueError, "steps_offset must be at least 0, got -1"),
        ("dpmpp_2m", {"solver_order": 0}, ValueError, "solver_order must be at least 1, got 0"),
        ("euler", {"final_sigmas_type": "x"}, ValueError, "final_sigmas_type must be one of 'zero', 'sigma_min', got str 'x'"),
        ("euler", {"interpolation_type": "x"}, ValueError, "interpolation_type must be one of 'linear', 'log_linear'"),
        ("ddpm", {"variance_type": "learned"}, ValueError, "variance_type must be one of None, 'fixed_small'"),
        ("heun", {"use_karras_sigmas": "yes"}, TypeError, "use_karras_sigmas must be True or False, got str 'yes'"),
        ("ddim", {"rescale_betas_zero_snr": None}, TypeError, "rescale_betas_zero_snr must be True or False, got NoneType"),
        ("heun", {"rescale_betas_zero_snr": "yes"}, TypeError, "rescale_betas_zero_snr must be True or False, got str"),
        ("ddim", {"thresholding": 1}, TypeError, "thresholding must be True or False, got int 1"),
        ("ddim", {"clip_sample_range": "1"}, TypeError, "clip_sample_range must be a number, got str '1'"),
        ("dpmpp_2m", {"algorithm_type": "dpm"}, ValueError, "algorithm_type must be one of 'dpmsolver'.*got str 'dpm'"),
    ],
)
def test_a_change_of_another_type_is_refused_by_name(name, change, error, message):
    with pytest.raises(error, match=message):
        make_scheduler(name, BASE, **change)


@pytest.mark.parametrize("kind", [torch.Tensor.clone, torch.Tensor.numpy, torch.Tensor.tolist])
def test_trained_betas_of_any_kind_become_a_list(kind):
    betas = torch.linspace(1e-4, 0.02, 1000)
    made = make_scheduler("euler", BASE, trained_betas=kind(betas))
    assert made.config.trained_betas == betas.tolist()
    assert type(make_scheduler("ddim", BASE, steps_offset=np.int64(2)).config.steps_offset) is int
    made.to_json_string()

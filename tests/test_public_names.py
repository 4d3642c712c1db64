"""What users import: names that stay, and where lessons may take them from."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

import diffusion_course

NAMES = """
    alpha_bar_at Animation as_velocity attend Attended attention_probabilities AttentionMaps AttentionWeights autoencoder_loss
    AutoencoderLoss bits_per_dim bootstrap_interval bpe byte_alphabet captions check CHECKPOINTS ClassifierFreeGuidance CLEAN
    code_to_scene convert_prediction cosine_betas count_flops count_parameters ddim_step ddpm_step DDPMStep decode_latents
    decode_text default_device diffusion_loss DigitClassifier DiT dpmpp_2m_step drop_condition elbo_terms ElboTerms EMA
    encode_images encode_prompt encode_text Estimate euler_ancestral_step euler_step exercise Explorer extract_features
    faithful find_checkpoint flops_by_module flow_interpolate flow_iter flow_level flow_loop flow_loss flow_schedule flow_time flow_times FlowState frechet_distance frechet_infinity FrechetFit from_x0_and_noise gaussian_kl
    GaussianMixture guided_prediction heun_step hint image_to_image ImageSet inference_timesteps inpaint Interval is_held_out
    iterate_levels Judge kernel_distance KernelDistance latent_levels latent_scaling LatentParts learn_merges Level
    linear_betas logit_normal_times load_dataset load_parts load_pretrained load_stable_diffusion load_vocabulary loss_weight make_denoise
    make_generator make_schedule make_scheduler measure_peak Memorisation memorisation MemoryEstimate merge_pair mixture MLP
    mmd Nearest nearest_distances noise_levels NoiseSchedule ode_log_likelihood ode_terms OdeTerms p_sample_iter p_sample_loop
    parse_caption patchify plotting PointSet Posterior posterior_coefficients precision_recall PrecisionRecall predict_memory
    prediction_target previous_alpha_bar progress Progress psnr q_posterior q_sample q_step read_scenes render_scenes
    rescale_zero_terminal_snr reset_progress sample_iter sample_latents sample_loop sample_scenes SAMPLERS SamplerStep
    SampleState scale_from_w scaled_linear_betas Scene scene_to_code seed_everything shipped_files show show_source
    shift_time sigmoid_betas slerp snr solution split_heads split_words STABLE_DIFFUSION_15 Step text_to_image Thing timestep_embedding
    to_x0_and_noise train train_step train_vocabulary TrainConfig TrainState Transition UNet unpatchify Vocabulary w_from_scale
    word_positions word_symbols
""".split()
ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "diffusion_course"
LESSONS = sorted((ROOT / "notebooks" / "source").glob("*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_there(name):
    assert name in diffusion_course.__all__
    assert getattr(diffusion_course, name) is not None


def test_there_is_no_public_name_that_is_not_listed():
    assert sorted(diffusion_course.__all__) == sorted([*NAMES, "__version__"])


@pytest.mark.parametrize("room", diffusion_course.ROOMS)
def test_a_room_offers_what_the_package_takes_from_it(room):
    module = import_module(f"diffusion_course.{room}")
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)
    taken = [name for part, names in diffusion_course.EXPORTS.items() if part.partition(".")[0] == room for name in names]
    assert set(taken) <= set(module.__all__)
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = module.no_such_name


def files_imported(source):
    """Modules of the package that are files, not folders, and that `source` imports from."""
    for node in ast.walk(ast.parse(source)):
        names = [node.module] if isinstance(node, ast.ImportFrom) else [one.name for one in getattr(node, "names", ()) if isinstance(node, ast.Import)]
        for name in names:
            inside = (name or "").split(".")
            if inside[0] == "diffusion_course" and PACKAGE.joinpath(*inside[1:]).with_suffix(".py").is_file():
                yield name


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_lessons_import_from_the_package_or_a_folder_of_it(path):
    assert list(files_imported(path.read_text(encoding="utf-8"))) == []


def test_an_import_from_a_file_is_found():
    source = "from diffusion_course.process.kernels import q_sample\nimport diffusion_course.door\nfrom diffusion_course.process import snr"
    assert list(files_imported(source)) == ["diffusion_course.process.kernels", "diffusion_course.door"]

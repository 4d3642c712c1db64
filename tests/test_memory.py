"""Memory: bytes counted by hand and against torch's own allocator, and the prediction against runs of the real pipeline."""

import gc
import math

import pytest
import torch
from accelerate import cpu_offload
from diffusers import DDIMScheduler, StableDiffusionPipeline
from tiny_stable_diffusion import make_tiny
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import ProfilerActivity, profile

from diffusion_course.latent import memory
from diffusion_course.latent.memory import (
    STABLE_DIFFUSION_15,
    LiveBytes,
    MemoryEstimate,
    measure_peak,
    predict_memory,
    rehearsal,
    shortage,
)
from diffusion_course.latent.memory import prediction as inside
from diffusion_course.latent.memory.counting import container_memory

TOLERANCE = 0.005  # of the tensors' peak; measured: 0.0011 and less
KERNELS = 0.25  # what kernels may take on top inside one operation, on this architecture at 128x128; measured: 0.19
KILO = torch.ones(256)  # float32: 1024 bytes


def allocator_peak(function):
    """The peak of bytes that torch's CPU allocator has handed out, kernels' scratch included, from the profiler's events."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        function()
    events = [(e.start_ns(), e.nbytes()) for e in run.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for _, size in sorted(events, key=lambda event: event[0]):
        now += size
        peak = max(peak, now)
    return peak


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def pipe(folder):
    pipe = StableDiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe, *, batch=1, size=32, guidance=True, **options):
    pipe.enable_attention_slicing("max" if options.get("attention_slicing") else None)
    pipe.vae.use_slicing, pipe.vae.use_tiling = options.get("vae_slicing", False), options.get("vae_tiling", False)
    return pipe(
        ["a red star"] * batch,
        height=size,
        width=size,
        num_inference_steps=3,
        output_type="pt",
        guidance_scale=5.0 if guidance else 1.0,
    ).images


def test_live_bytes_by_hand():
    with LiveBytes() as live:
        a = KILO + 1  # 1024
        live.begin("two")
        b = torch.cat([a, a])  # 1024 + 2048
        del a
        live.begin("three")
        c = b.double()  # 2048 + 4096
        assert live.now == 6144
    assert live.peaks == {"": 1024, "two": 3072, "three": 6144}
    assert live.peak == 6144
    del b, c
    assert live.now == 0


def test_views_inputs_and_in_place_changes_cost_nothing():
    with LiveBytes() as live:
        view = KILO.view(16, 16).t()[2:]
        KILO.add_(0)
        KILO.to("meta")
        assert live.peak == 0
        copy = view.contiguous()
        copy[0].mul_(2)
    assert live.now == live.peak == copy.untyped_storage().nbytes() == 14 * 16 * 4


def test_a_phase_that_goes_on_keeps_its_peak():
    with LiveBytes() as live:
        live.begin("a")
        x = KILO + 1
        live.begin("b")
        del x
        live.begin("a")
    assert live.peaks == {"": 0, "a": 1024, "b": 1024}


def test_measure_peak_returns_the_result_and_forgets_what_was_there():
    big = torch.ones(10_000)
    result, size = measure_peak(lambda: (KILO + big[:256]).sum())
    assert result.item() == 512
    assert size == 1024 + 4


@pytest.mark.parametrize("name", ["elementwise", "linear", "group norm", "resize"])
def test_live_bytes_are_what_the_allocator_hands_out(name):
    x, f = torch.ones(2, 8, 64, 64), nn.functional
    function = {
        "elementwise": lambda: f.silu(x + 1) * 2,
        "linear": lambda: f.linear(x, torch.ones(64, 64)),
        "group norm": lambda: f.group_norm(x, 4).relu(),
        "resize": lambda: f.interpolate(x, scale_factor=2.0),
    }[name]
    with torch.no_grad():
        assert allocator_peak(function) == pytest.approx(measure_peak(function).bytes, rel=0.01)


OPTIONS = [
    {},
    {"batch": 3},
    {"batch": 3, "guidance": False},
    {"batch": 2, "attention_slicing": True},
    {"batch": 4, "vae_slicing": True},
    {"size": 64},
    {"size": 64, "vae_tiling": True},
    {"size": 64, "batch": 2, "vae_tiling": True, "vae_slicing": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_prediction_is_what_the_pipeline_takes(options, pipe, folder):
    draw(pipe, **options)
    measured = measure_peak(lambda: draw(pipe, **options)).bytes
    size = options.get("size", 32)
    predicted = predict_memory(folder, height=size, width=size, **{k: v for k, v in options.items() if k != "size"})
    assert max(predicted.activations.values()) == pytest.approx(measured, rel=TOLERANCE)
    networks = (pipe.text_encoder, pipe.unet, pipe.vae)
    assert sum(predicted.weights.values()) == sum(x.nbytes for n in networks for x in (*n.parameters(), *n.buffers()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_in_other_dtypes(dtype, folder):
    pipe = StableDiffusionPipeline.from_pretrained(folder, dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    draw(pipe, batch=2)
    measured = measure_peak(lambda: draw(pipe, batch=2)).bytes
    predicted = predict_memory(pipe, batch=2)
    assert max(predicted.activations.values()) == pytest.approx(measured, rel=TOLERANCE)
    assert predicted == predict_memory(folder, batch=2, dtype=dtype)


def test_the_allocator_agrees_up_to_the_kernels_scratch(pipe, folder):
    draw(pipe, size=128)
    handed_out = allocator_peak(lambda: draw(pipe, size=128))
    predicted = max(predict_memory(folder, height=128, width=128).activations.values())
    assert 1 - TOLERANCE < handed_out / predicted < 1 + KERNELS


def test_each_saving_saves_where_it_should(folder):
    plain = predict_memory(folder, batch=4, height=64, width=64)
    sliced = predict_memory(folder, batch=4, height=64, width=64, vae_slicing=True)
    tiled = predict_memory(folder, batch=4, height=64, width=64, vae_tiling=True)
    alone = predict_memory(folder, batch=4, height=64, width=64, guidance=False)
    for saving in (sliced, tiled):
        assert saving.activations["decode"] < 0.5 * plain.activations["decode"]
        assert saving.activations["denoise"] == plain.activations["denoise"]
        assert saving.weights == plain.weights
    assert alone.activations["denoise"] < 0.6 * plain.activations["denoise"]


def test_stable_diffusion_at_full_size():
    half = predict_memory(STABLE_DIFFUSION_15, dtype=torch.float16)
    number = {name: round(size / 2) for name, size in half.weights.items()}
    assert number["unet"] == 859_520_964  # text: 77 position numbers are 8 bytes each
    assert number["vae"] == 83_653_863
    assert (half.weights["text_encoder"] - 8 * 77) / 2 == 123_060_480
    scores = 2 * 8 * 4096**2 * 2  # guidance, heads, 64x64 queries and keys, bytes
    unfused = predict_memory(STABLE_DIFFUSION_15, dtype=torch.float16, fused_attention=False)
    assert unfused.activations["denoise"] > 2 * scores  # the scores and their softmax
    sliced = predict_memory(STABLE_DIFFUSION_15, dtype=torch.float16, fused_attention=False, attention_slicing=True)
    assert sliced.activations["denoise"] == half.activations["denoise"] < scores / 3
    whole = predict_memory(STABLE_DIFFUSION_15, dtype=torch.float32)
    assert whole.total == pytest.approx(2 * half.total, rel=0.01)


def totals(source):
    return {offload: predict_memory(source, offload=offload).total for offload in memory.OFFLOADS}


@pytest.mark.parametrize("source", ["tiny", "full"])
def test_offloading_keeps_less_on_the_device(source, folder):
    source = folder if source == "tiny" else STABLE_DIFFUSION_15
    sizes = totals(source)
    assert sizes["sequential"] < sizes["model"] < sizes[None]
    assert predict_memory(source).host == 0
    assert predict_memory(source, offload="model").host == sum(predict_memory(source).weights.values())


def networks_of(folder):
    networks = {name: rehearsal.skeleton(name, config) for name, config in inside._configs(folder).items()}
    for network in networks.values():
        rehearsal.fill(network, torch.float32)
    return networks


def assemble(networks):
    scheduler = DDIMScheduler(clip_sample=False, steps_offset=1)
    return StableDiffusionPipeline(
        **networks,
        tokenizer=None,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def move_by_hand(self, convert, recurse=True):
    """nn.Module._apply for fake tensors, which the real one cannot swap."""
    for child in self.children():
        child._apply(convert)
    for tensors in (self._parameters, self._buffers):
        for name, x in [(name, x) for name, x in tensors.items() if x is not None]:
            tensors[name] = nn.Parameter(convert(x), requires_grad=False) if isinstance(x, nn.Parameter) else convert(x)
    return self


@pytest.mark.parametrize("offload", [None, "model"])
def test_diffusers_own_moves_to_a_fake_gpu_cost_what_is_predicted(offload, folder, monkeypatch):
    class OnGpu(LiveBytes):
        def _see(self, x, *, made_here):
            if isinstance(x, torch.Tensor) and x.device.type == "cuda":
                super()._see(x, made_here=made_here)

    monkeypatch.setattr(nn.Module, "_apply", move_by_hand)
    with FakeTensorMode(), torch.no_grad():
        networks = networks_of(folder)
        pipe = assemble(networks)
        with OnGpu() as live:
            if offload is None:
                pipe.to("cuda")
            else:
                pipe.enable_model_cpu_offload(device="cuda")
            with torch.device("cuda"):
                memory.dry_run(networks, (2, 8, 8), dict.fromkeys(networks, torch.float32), True, live.begin)
    assert predict_memory(folder, batch=2, offload=offload).total == pytest.approx(live.peak, rel=TOLERANCE)


def test_accelerates_own_layer_by_layer_loading_costs_what_is_predicted(folder):
    class WithLoaded(LiveBytes):
        """Tensors, and the weights that are not on the meta device at the moment: accelerate loads and drops them."""

        highest = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            output = super().__torch_dispatch__(func, types, args, kwargs)
            loaded = sum(x.nbytes for n in networks.values() for x in n.parameters() if not x.is_meta)
            self.highest = max(self.highest, loaded + self.now)
            return output

    pipe = StableDiffusionPipeline.from_pretrained(folder)
    networks = {name: getattr(pipe, name) for name in ("text_encoder", "unet", "vae")}
    for network in networks.values():
        cpu_offload(network, torch.device("cpu"), offload_buffers=len(network._parameters) > 0)
    assert all(x.is_meta for network in networks.values() for x in network.parameters())
    with torch.no_grad(), WithLoaded() as live:
        memory.dry_run(networks, (2, 8, 8), dict.fromkeys(networks, torch.float32), True, live.begin)
    # 3 %: an estimate holds a layer's weights over all of its call, here they count when an operation ends
    assert predict_memory(folder, batch=2, offload="sequential").total == pytest.approx(live.highest, rel=0.03)


def test_a_safety_checker_counts_and_is_not_offloaded(folder):
    vision = {
        "hidden_size": 32,
        "intermediate_size": 37,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 30,
        "patch_size": 2,
    }
    checker = {"projection_dim": 32, "vision_config": vision}
    configs = inside._configs(folder)
    plain, checked = predict_memory(configs), predict_memory({**configs, "safety_checker": checker})
    extra = checked.weights["safety_checker"]
    assert extra > 0
    assert "check" in checked.activations
    assert "check" not in plain.activations
    assert checked.total >= plain.total + extra
    for offload in ("model", "sequential"):
        without = predict_memory(configs, offload=offload)
        with_it = predict_memory({**configs, "safety_checker": checker}, offload=offload)
        assert with_it.during("decode") == without.during("decode") + extra
        assert with_it.host == without.host


def test_a_pipeline_its_folder_and_its_configurations_give_the_same(pipe, folder):
    estimate = predict_memory(pipe)
    assert estimate == predict_memory(folder) == predict_memory(str(folder)) == predict_memory(inside._configs(folder))
    assert "MB at the peak; weights: text_encoder" in str(estimate)


def test_the_prediction_allocates_next_to_nothing():
    gc.collect()
    assert allocator_peak(lambda: predict_memory(STABLE_DIFFUSION_15)) < 1e6


def test_bad_input_is_named(folder, tmp_path):
    for kwargs, message in (
        ({"height": 30}, "height must be a multiple of 4, the autoencoder's factor, got 30"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"offload": "disk"}, "offload must be one of None, 'model', 'sequential', got 'disk'"),
    ):
        with pytest.raises(ValueError, match=message):
            predict_memory(folder, **kwargs)
    with pytest.raises(ValueError, match="model must be .*got .*Path.* without a configuration of text_encoder and unet and vae"):
        predict_memory(tmp_path)
    with pytest.raises(ValueError, match="got dict .* without a configuration of vae"):
        predict_memory({"unet": {}, "text_encoder": {}})
    with pytest.raises(ValueError, match="phase must be one of 'text', 'denoise', 'decode', got 'sleep'"):
        predict_memory(folder).during("sleep")


def test_shortage_says_what_lacks_where(monkeypatch):
    free = {"cpu": 10e9, "cuda": 2e9}
    monkeypatch.setattr(inside, "free_memory", lambda device: free[torch.device(device).type])
    small = MemoryEstimate({"unet": 1 * 10**9}, {"denoise": 10**8})
    assert shortage(small, "cuda") == shortage(small, "cpu") == ""
    large = MemoryEstimate({"unet": 2 * 10**9}, {"denoise": 10**8})
    assert shortage(large, "cuda") == "it needs 2.5 GB of memory on cuda, 2.0 GB are free"
    assert shortage(large, "cpu") == ""
    hungry = MemoryEstimate({"unet": 9 * 10**9}, {"denoise": 10**8}, "sequential")
    assert shortage(hungry, "cuda") == "it needs 10.8 GB of memory on cpu, 10.0 GB are free"


def test_free_memory_of_this_machine():
    assert 2**20 < memory.free_memory("cpu") < 2**50


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({"memory.max": "1000", "memory.current": "700", "memory.stat": "anon 5\ninactive_file 100\n"}, 400),
        ({"memory.max": "max", "memory.current": "700", "memory.stat": ""}, math.inf),
        (
            {
                "memory/memory.limit_in_bytes": "1000",
                "memory/memory.usage_in_bytes": "700",
                "memory/memory.stat": "inactive_file 7\ntotal_inactive_file 50\n",
            },
            350,
        ),
        ({}, math.inf),
    ],
)
def test_a_containers_limit_counts(tmp_path, files, left):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert container_memory(tmp_path) == left


@pytest.mark.gpu
@pytest.mark.parametrize("offload", memory.OFFLOADS)
def test_a_full_size_architecture_on_a_gpu(offload):
    torch.cuda.empty_cache()
    networks = {name: rehearsal.skeleton(name, config) for name, config in STABLE_DIFFUSION_15.items()}
    for network in networks.values():
        network.to(torch.float16).to_empty(device="cpu")
        for x in network.parameters():
            nn.init.normal_(x, std=0.02)
    pipe = assemble(networks)
    pipe.set_progress_bar_config(disable=True)
    before = torch.cuda.memory_allocated()
    {None: lambda: pipe.to("cuda"), "model": pipe.enable_model_cpu_offload, "sequential": pipe.enable_sequential_cpu_offload}[
        offload
    ]()
    context = torch.zeros(1, 77, 768, dtype=torch.float16, device="cuda")

    def run():
        return pipe(prompt_embeds=context, negative_prompt_embeds=context, num_inference_steps=2, output_type="pt")

    run()
    resident = torch.cuda.memory_allocated() - before
    measured = resident + measure_peak(run, "cuda").bytes
    predicted = predict_memory(STABLE_DIFFUSION_15, dtype=torch.float16, offload=offload).total
    assert 0.95 * predicted < measured < (1 + memory.HEADROOM) * predicted + 300e6


def test_a_folder_that_is_missing_or_damaged_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="model must be a folder in diffusers' layout, none is .*nowhere"):
        predict_memory(tmp_path / "nowhere")
    (tmp_path / "unet").mkdir()
    for text in ("{", "[1]", "3"):
        (tmp_path / "unet" / "config.json").write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=r"unet.config\.json is damaged"):
            predict_memory(tmp_path)

"""Who is compared: the course and three packages, each trained by its own recipe on the same digits
in the same batches.

A contender is one training run. The packages' loops are their own where they can be called
(smalldiffusion), and otherwise the body of their loop line by line (denoising-diffusion-pytorch's
``Trainer.train``, diffusers' tutorial). Three departures, all in the peers' favour: the digits lie
in memory instead of in image files, no batch is flipped (a mirrored 2 is no digit), and nothing is
logged or drawn while the clock runs.
"""

import copy
import importlib.util
import itertools
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from diffusion_course import EMA, load_dataset, make_schedule, train
from diffusion_course.files.checkpoints import load_into, load_tensors, save_tensors
from diffusion_course.process.schedules import NoiseSchedule
from diffusion_course.sampling.loop import sample_loop
from diffusion_course.training.precision import autocast, resolve_precision, set_layout

from . import recipe
from .evaluation import Drawable

BATCH = 128
Draw = Callable[
    [int, int, torch.Generator], Tensor
]  # (number of digits, steps, generator) -> images in [-1, 1]


def digits() -> Tensor:
    """Return the training digits (N, 1, 16, 16) in [-1, 1]."""
    return load_dataset("digits", split="train", size=16).images


class Contender(ABC):
    """One training run of one package. ``run`` trains; ``shipped`` is the network that its recipe
    would ship.
    """

    needs: tuple[str, ...] = ()  # import names
    shipped: nn.Module
    description: str

    def __init__(self, *, seed: int, device: str, seconds: float, precision: str = "no") -> None:
        self.seed, self.device, self.seconds, self.precision = seed, device, seconds, precision
        torch.manual_seed(seed)
        self.build()

    @abstractmethod
    def build(self) -> None:
        """Make the network and what trains it."""

    @abstractmethod
    def run(self) -> Iterator[int]:
        """Train; yield the number of steps done."""

    @abstractmethod
    def drawable(self) -> Drawable:
        """Return the shipped network as our samplers call it."""

    @abstractmethod
    def own_samplers(self) -> dict[str, Draw]:
        """Return the package's own samplers."""

    def independent_of_length(self, step: int) -> bool:
        """Whether the run so far is what a run of any other length would have been (no decay
        towards its end yet).
        """
        return True

    def save(self, path, metadata: dict) -> None:
        """Write the shipped network."""
        state = {k: v.contiguous() for k, v in self.shipped.state_dict().items()}
        save_tensors(path, state, metadata)

    def load(self, path) -> dict:
        """Take up a shipped network and return its metadata."""
        tensors, metadata = load_tensors(path)
        load_into(self.shipped, tensors, str(path))
        self.shipped.to(self.device).eval()
        return metadata

    def trained_network(self) -> nn.Module:
        """Return the network that the optimiser changes, where the shipped one is its average."""
        return self.shipped

    def accelerator(self):
        """Return the packages' own device handling, in the chosen precision."""
        from accelerate import Accelerator

        return Accelerator(mixed_precision=self.precision, cpu=self.device == "cpu")

    def loader(self, data: Tensor) -> DataLoader:
        """Return the digits in shuffled batches."""
        return DataLoader(data, batch_size=BATCH, shuffle=True, drop_last=True)


class Ours(Contender):
    """The course: ``train`` with the arguments of ``recipe.ours``; the length is set from the time
    of the first steps.
    """

    calibration = 10

    def build(self) -> None:
        self.recipe = recipe.ours(self.seconds, self.device)
        self.model = self.recipe.build().to(self.device)
        self.shipped = copy.deepcopy(self.model).eval()
        self.description = (
            f"{self.recipe.network}({self.recipe.config}), train({self.recipe.train})"
        )

    def run(self) -> Iterator[int]:
        data, schedule = digits().to(self.device), self.recipe.noise_schedule()
        arguments = {"batch_size": BATCH, "seed": self.seed, **self.recipe.train}
        # The clock runs during these trial steps too. The first ones compile and allocate: they do
        # not count for the rate.
        trial = train(
            copy.deepcopy(self.model), data, schedule, num_steps=10_000, report_every=1, **arguments
        )
        times = [state.seconds for state in itertools.islice(trial, self.calibration)]
        tried = max(0.3, 0.02 * self.seconds)
        start = time.perf_counter()
        while time.perf_counter() - start < tried:
            times.append(next(trial).seconds)
        rate = sorted(b - a for a, b in itertools.pairwise(times[self.calibration // 2 :]))
        each, spent = rate[len(rate) // 2], times[-1]
        num_steps = max(2, math.floor(0.97 * (self.seconds - spent) / each))
        for state in train(
            self.model,
            data,
            schedule,
            num_steps=num_steps,
            report_every=min(10, num_steps),
            **arguments,
        ):
            self.shipped = state.ema_model
            yield state.step

    def trained_network(self) -> nn.Module:
        return self.model

    def independent_of_length(self, step: int) -> bool:
        return False  # the learning rate falls towards the end from the start

    def drawable(self) -> Drawable:
        return Drawable(self.shipped, self.recipe.noise_schedule(), self.recipe.prediction_type)

    def own_samplers(self) -> dict[str, Draw]:
        schedule = self.recipe.noise_schedule()
        images = set_layout(self.shipped, torch.empty(1, 1, 16, 16, device=self.device))
        precision = resolve_precision(images)

        def bind(sampler: str) -> Draw:
            def run(n: int, steps: int, generator: torch.Generator) -> Tensor:
                with autocast(images.device, precision):
                    return sample_loop(
                        self.shipped,
                        (n, 1, 16, 16),
                        schedule,
                        sampler=sampler,
                        num_inference_steps=steps,
                        prediction_type=self.recipe.prediction_type,
                        clip_x0=1.0,
                        generator=generator,
                        dtype=torch.float32,
                        device=torch.device(self.device),
                    )

            return run

        return {name: bind(name) for name in ("ddim", "dpmpp_2m")}


class DenoisingDiffusionPytorch(Contender):
    """lucidrains' denoising-diffusion-pytorch: README's network, the classes' defaults, the body of
    ``Trainer.train``.
    """

    needs = ("denoising_diffusion_pytorch",)
    description = (
        "Unet(dim=64, dim_mults=(1, 2, 4, 8)), GaussianDiffusion (v, sigmoid), Adam 1e-4, clip 1,"
        " EMA 0.995 every 10"
    )

    def build(self) -> None:
        from denoising_diffusion_pytorch import GaussianDiffusion, Unet
        from ema_pytorch import EMA as TheirEMA

        network = Unet(dim=64, dim_mults=(1, 2, 4, 8), channels=1)
        self.diffusion = GaussianDiffusion(network, image_size=16).to(self.device)
        self.ema = TheirEMA(self.diffusion, beta=0.995, update_every=10).to(self.device)
        self.shipped = self.ema.ema_model

    def trained_network(self) -> nn.Module:
        return self.diffusion

    def run(self) -> Iterator[int]:
        accelerator = self.accelerator()
        optimizer = torch.optim.Adam(self.diffusion.parameters(), lr=1e-4, betas=(0.9, 0.99))
        loader = accelerator.prepare(
            self.loader((digits() + 1) / 2)
        )  # it takes [0, 1] and normalises inside
        model, optimizer = accelerator.prepare(self.diffusion, optimizer)
        batches = itertools.chain.from_iterable(itertools.repeat(loader))
        for step in itertools.count(1):
            model.train()
            with accelerator.autocast():
                loss = model(next(batches))
            loss.item()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            self.ema.update()
            yield step

    def drawable(self) -> Drawable:
        return Drawable(
            self.shipped.model.eval(),
            NoiseSchedule(self.shipped.betas.double().cpu()),
            "v_prediction",
        )

    def own_samplers(self) -> dict[str, Draw]:
        def run(n: int, steps: int, generator: torch.Generator) -> Tensor:
            torch.manual_seed(generator.initial_seed())  # it draws from the global generator
            self.shipped.sampling_timesteps, self.shipped.is_ddim_sampling = (
                steps,
                steps < self.shipped.num_timesteps,
            )
            return self.shipped.eval().sample(batch_size=n) * 2 - 1

        return {"its ddim_sample": run}


class Diffusers(Contender):
    """diffusers' UNet2DModel, widths and levels of its training tutorial scaled to 16x16, and the
    tutorial's loop.
    """

    needs = ("accelerate",)
    widths = (64, 128, 128)
    groups = 32
    description = (
        "UNet2DModel(64, 128, 128; 2 layers; attention at 8x8), tutorial's loop: AdamW 1e-4,"
        " warm-up 500, clip 1, no EMA"
    )
    warmup = 500

    def build(self) -> None:
        from diffusers import DDPMScheduler, UNet2DModel

        levels = len(self.widths)
        attend = levels - 2  # the tutorial attends at the last level but one
        self.unet = UNet2DModel(
            sample_size=16,
            in_channels=1,
            out_channels=1,
            layers_per_block=2,
            block_out_channels=self.widths,
            norm_num_groups=self.groups,
            down_block_types=tuple(
                "AttnDownBlock2D" if i == attend else "DownBlock2D" for i in range(levels)
            ),
            up_block_types=tuple(
                "AttnUpBlock2D" if levels - 1 - i == attend else "UpBlock2D" for i in range(levels)
            ),
        ).to(self.device)
        self.scheduler = DDPMScheduler(num_train_timesteps=1000)
        self.shipped = self.unet

    def run(self) -> Iterator[int]:
        # The tutorial knows its number of steps in advance; here it follows from the clock, and
        # ends the cosine on time.
        accelerator = self.accelerator()
        optimizer = torch.optim.AdamW(self.unet.parameters(), lr=1e-4)
        loader = self.loader(digits())
        state = {"progress": 0.0}
        rate = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: self._rate(step, state["progress"])
        )
        model, optimizer, loader, rate = accelerator.prepare(self.unet, optimizer, loader, rate)
        start = time.perf_counter()
        batches = itertools.chain.from_iterable(itertools.repeat(loader))
        for step in itertools.count(1):
            model.train()
            clean = next(batches)
            noise = torch.randn(clean.shape, device=clean.device)
            timesteps = torch.randint(0, 1000, (len(clean),), device=clean.device).long()
            noisy = self.scheduler.add_noise(clean, noise, timesteps)
            with accelerator.accumulate(model):
                loss = nn.functional.mse_loss(model(noisy, timesteps, return_dict=False)[0], noise)
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                rate.step()
                optimizer.zero_grad()
            loss.detach().item()
            if step == self.warmup:
                self.started = (time.perf_counter() - start) / self.seconds
            state["progress"] = (time.perf_counter() - start) / self.seconds
            yield step

    def _rate(self, step: int, progress: float) -> float:
        """diffusers' get_cosine_schedule_with_warmup, with time in the place of steps after the
        warm-up.
        """
        if step < self.warmup:
            return step / self.warmup
        begun = getattr(self, "started", progress)
        done = min(1.0, (progress - begun) / max(1e-9, 1 - begun))
        return 0.5 * (1 + math.cos(math.pi * done))

    def independent_of_length(self, step: int) -> bool:
        return step <= self.warmup

    def drawable(self) -> Drawable:
        unet = self.shipped.eval()
        return Drawable(
            lambda xt, t: unet(xt, t, return_dict=False)[0],
            make_schedule("linear", 1000),
            "epsilon",
        )

    def own_samplers(self) -> dict[str, Draw]:
        from diffusers import DDIMPipeline, DDIMScheduler, DPMSolverMultistepScheduler

        pipeline = DDIMPipeline(
            self.shipped.eval(), DDIMScheduler.from_config(self.scheduler.config)
        )
        pipeline.set_progress_bar_config(disable=True)
        solver = DPMSolverMultistepScheduler.from_config(self.scheduler.config)

        def ddim(n: int, steps: int, generator: torch.Generator) -> Tensor:
            images = pipeline(
                batch_size=n, generator=generator, num_inference_steps=steps, output_type="np"
            ).images
            return torch.from_numpy(images).reshape(n, 1, 16, 16) * 2 - 1

        @torch.no_grad()
        def dpm(n: int, steps: int, generator: torch.Generator) -> Tensor:
            solver.set_timesteps(steps, device=self.device)
            x = torch.randn(n, 1, 16, 16, generator=generator, device=self.device)
            for t in solver.timesteps:
                x = solver.step(self.shipped(x, t, return_dict=False)[0], t, x).prev_sample
            return x

        return {"DDIMPipeline": ddim, "DPMSolverMultistep": dpm}


class DiffusersSmall(Diffusers):
    """The same loop with a quarter of the work: the widths that Hugging Face's course uses for
    MNIST.
    """

    widths = (32, 64, 64)
    description = "UNet2DModel(32, 64, 64; 2 layers; attention at 8x8), otherwise as diffusers"


class SmallDiffusion(Contender):
    """smalldiffusion's U-Net, ``training_loop`` and schedule with the settings of
    examples/fashion_mnist_unet.py.
    """

    needs = ("smalldiffusion",)
    description = (
        "Scaled(Unet)(ch=64, ch_mult=(1, 1, 2), attention at 8x8), ScheduleLogLinear(0.01, 20,"
        " N=800), AdamW 7e-4, EMA 0.999"
    )
    sigma_min, sigma_max, levels = 0.01, 20.0, 800

    def build(self) -> None:
        from smalldiffusion import Scaled, ScheduleLogLinear, Unet

        self.model = Scaled(Unet)(16, 1, 1, ch=64, ch_mult=(1, 1, 2), attn_resolutions=(8,)).to(
            self.device
        )
        self.schedule = ScheduleLogLinear(
            sigma_min=self.sigma_min, sigma_max=self.sigma_max, N=self.levels
        )
        self.ema = EMA(self.model, 0.999)  # the rule of torch_ema, which the example uses
        self.shipped = self.ema.model

    def trained_network(self) -> nn.Module:
        return self.model

    def run(self) -> Iterator[int]:
        from smalldiffusion import training_loop

        steps = training_loop(
            self.loader(digits()),
            self.model,
            self.schedule,
            accelerator=self.accelerator(),
            lr=7e-4,
        )
        for step, _ in enumerate(
            steps
        ):  # it yields before each update: at the second yield one step is done
            if step:
                self.ema.update(self.model, step)
                yield step

    def drawable(self) -> Drawable:
        model = self.shipped.eval()
        alpha_bar = 1 / (1 + self.schedule.sigmas.double() ** 2)
        betas = 1 - alpha_bar / torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])

        def predict(xt: Tensor, t: Tensor) -> Tensor:
            ratio = math.log(self.sigma_max / self.sigma_min) / (self.levels - 1)
            sigma = self.sigma_min * torch.exp(ratio * t.double()).to(xt.dtype).reshape(-1, 1, 1, 1)
            return model(xt * (1 + sigma**2).sqrt(), sigma)  # x_t = x / sqrt(1 + sigma^2)

        return Drawable(predict, NoiseSchedule(betas), "epsilon")

    def own_samplers(self) -> dict[str, Draw]:
        from smalldiffusion import samples

        accelerator = self.accelerator()

        def run(n: int, steps: int, generator: torch.Generator) -> Tensor:
            torch.manual_seed(generator.initial_seed())
            sigmas = self.schedule.sample_sigmas(steps)
            for x in samples(self.shipped, sigmas, gam=1.6, batchsize=n, accelerator=accelerator):  # noqa: B007
                pass
            return x

        return {"its samples(gam=1.6)": run}


CONTENDERS: dict[str, type[Contender]] = {
    "ours": Ours,
    "denoising-diffusion-pytorch": DenoisingDiffusionPytorch,
    "diffusers": Diffusers,
    "smalldiffusion": SmallDiffusion,
    "diffusers-small": DiffusersSmall,
}
DEFAULT = tuple(CONTENDERS)[:4]
INSTALL = 'pip install -c constraints.txt -e ".[bench]"'


def missing(name: str) -> str | None:
    """Return what to do if a contender's package is not installed, else None."""
    absent = [
        package for package in CONTENDERS[name].needs if importlib.util.find_spec(package) is None
    ]
    return (
        f"{name} is left out: {', '.join(absent)} is not installed. {INSTALL}" if absent else None
    )

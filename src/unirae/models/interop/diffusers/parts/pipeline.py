"""Images of classes: noise, Euler steps along the probability-flow ODE, the decoder of a representation autoencoder."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from jaxtyping import Float, Int64
from torch import Tensor

from unirae.core.errors import ConfigError
from unirae.flow.guidance import classifier_free, conditional, internal_and_classifier_free
from unirae.flow.times import time_grid as grid_of_times
from unirae.flow.velocity import Velocity
from unirae.models.denoisers.condition import Condition

_DEFAULTS = {
    "num_inference_steps": 50,
    "guidance_scale": 1.0,
    "guidance_interval": (0.0, 1.0),
    "time_grid": "reference",
    "internal_guidance_scale": 1.0,
    "internal_guidance_interval": (0.0, 1.0),
    "internal_guidance_unconditional_scale": None,
}


class RAEDiTPipeline(DiffusionPipeline):
    """Class-conditional generation in the latents of a representation autoencoder (arXiv 2510.11690).

    Args:
        transformer: RAETransformer of this folder.
        vae: AutoencoderRAE.
        scheduler: FlowMatchEulerDiscreteScheduler without a shift; the times come from here, already shifted.
        id2label: names of the classes.
        defaults: of the arguments of a call.
    """

    model_cpu_offload_seq = "transformer->vae"

    def __init__(
        self,
        transformer: Any,
        vae: Any,
        scheduler: Any,
        id2label: dict[str, str] | None = None,
        defaults: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(transformer=transformer, vae=vae, scheduler=scheduler)
        self.register_to_config(id2label=id2label, defaults=defaults)

    def label_ids(self, class_labels: int | str | Sequence[int | str] | Tensor) -> Int64[Tensor, " b"]:
        """Numbers of classes, given numbers or names.

        Raises:
            ConfigError: If a number or name belongs to no class, or a name to several.
        """
        if isinstance(class_labels, Tensor):
            class_labels = class_labels.tolist()
        if isinstance(class_labels, int | str):
            class_labels = [class_labels]
        null_label = self.transformer.network.null_label
        ids = [self._id_of(label) if isinstance(label, str) else int(label) for label in class_labels]
        if not ids or not all(0 <= label <= null_label for label in ids):
            raise ConfigError(
                f"class_labels={ids} must be classes 0 to {null_label - 1}; {null_label} stands for no class"
            )
        return torch.tensor(ids, device=self._execution_device)

    @torch.no_grad()
    def __call__(
        self,
        class_labels: int | str | Sequence[int | str] | Tensor,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
        time_grid: str | None = None,
        internal_guidance_scale: float | None = None,
        internal_guidance_interval: tuple[float, float] | None = None,
        internal_guidance_unconditional_scale: float | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Float[Tensor, "b c h w"] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> Any:
        """New images, one for each label. What is None is taken from the folder's defaults.

        Args:
            class_labels: numbers or names of classes; the number of classes itself stands for no class.
            num_inference_steps: points of the time grid, as in UniRAE and in RAE's reference code: the network is
                evaluated once less.
            guidance_scale: w of v_null + w·(v − v_null), on all channels; 1 is without guidance.
            guidance_interval: (lowest, highest) shifted time at which guidance acts; t = 0 is data, t = 1 is noise.
            time_grid: ``reference`` ends close to data, as RAE's code does; ``to_zero`` and RAEv2's ``linear`` at data.
            internal_guidance_scale: s of v_base + s·(v − v_base), away from the network's early head; 1 is without.
            internal_guidance_interval: (lowest, highest) shifted time at which it acts.
            internal_guidance_unconditional_scale: s of the branch for no class, where guidance_scale guides, too; by
                default internal_guidance_scale.
            generator: of the noise.
            latents: the noise itself.
            output_type: ``pil``, ``np``, ``pt`` (in [0, 1]) or ``latent``.
        """
        self._check_precision()
        given = self._with_defaults(
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            guidance_interval=guidance_interval,
            time_grid=time_grid,
            internal_guidance_scale=internal_guidance_scale,
            internal_guidance_interval=internal_guidance_interval,
            internal_guidance_unconditional_scale=internal_guidance_unconditional_scale,
        )
        labels = self.label_ids(class_labels)
        velocity = self._velocity(labels, given)
        noise = self._noise(len(labels), generator, latents)
        found = self._integrate(velocity, noise, given["num_inference_steps"], given["time_grid"])
        images = self._images(found, output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _id_of(self, name: str) -> int:
        config: Any = self.config
        found = [int(number) for number, label in (config.id2label or {}).items() if label == name]
        if len(found) != 1:
            raise ConfigError(
                f"classes named {name!r}: {found or 'none'}; give a number from pipe.config.id2label"
            )
        return found[0]

    def _with_defaults(self, **given: Any) -> dict[str, Any]:
        config: Any = self.config
        defaults = {**_DEFAULTS, **(config.defaults or {})}
        return {name: defaults[name] if value is None else value for name, value in given.items()}

    def _check_precision(self) -> None:
        if self.transformer.dtype != torch.float32:
            raise ConfigError(
                f"the transformer is in {self.transformer.dtype}, but parts of it must compute in float32: load it so, "
                "and call the pipeline inside torch.autocast(device, torch.bfloat16)"
            )

    def _velocity(self, labels: Tensor, given: dict[str, Any]) -> Velocity:
        def model(x: Tensor, t: Tensor, condition: Condition) -> Tensor:
            return self.transformer(x, timestep=t, class_labels=condition.labels, return_dict=False)[0]

        def heads(x: Tensor, t: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
            return self.transformer(x, timestep=t, class_labels=condition.labels, return_base=True)

        network, condition = self.transformer.network, Condition.of(labels)
        scale, interval = given["guidance_scale"], tuple(given["guidance_interval"])
        if scale != 1 and network.num_classes == 0:
            raise ConfigError(
                f"guidance_scale={scale} needs a model with labels; this one was trained without"
            )
        null = network.null_condition(len(labels), labels.device)
        own, alone = given["internal_guidance_scale"], given["internal_guidance_unconditional_scale"]
        scales = own, own if alone is None else alone
        if own == 1 and (scale == 1 or scales[1] == 1):
            if scale == 1:
                return conditional(model, condition)
            return classifier_free(model, condition, null, scale=scale, interval=interval)
        if network.base_output is None:
            raise ConfigError(
                f"internal_guidance_scale={own} needs a model with an early head; this one has none"
            )
        return internal_and_classifier_free(
            model,
            heads,
            condition,
            null,
            scale=scale,
            interval=interval,
            internal_scales=scales,
            internal_interval=tuple(given["internal_guidance_interval"]),
        )

    def _noise(self, count: int, generator: Any, latents: Tensor | None) -> Float[Tensor, "b c h w"]:
        shape = (count, *self.transformer.network.latent_shape)
        device = self._execution_device
        if latents is None:
            return randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
        if tuple(latents.shape) != shape:
            raise ConfigError(f"latents of shape {tuple(latents.shape)}: noise for these labels has {shape}")
        return latents.to(device, torch.float32)

    def _integrate(self, velocity: Velocity, x: Tensor, num_points: int, grid: str) -> Tensor:
        """Integrate by Euler's steps."""
        times = grid_of_times(num_points, self.transformer.config.time_shift, grid)
        self.scheduler.set_timesteps(sigmas=times[:-1] if times[-1] == 0 else times, device=x.device)
        self.scheduler.set_begin_index(0)
        starts = times[:-1]
        steps = list(zip(starts, self.scheduler.timesteps[: len(starts)], strict=True))
        progress_bar: Any = self.progress_bar
        with progress_bar(total=len(steps)) as bar:
            for t, timestep in steps:
                x = self.scheduler.step(velocity(x, t), timestep, x, return_dict=False)[0]
                bar.update()
        return x

    def _images(self, latents: Tensor, output_type: str) -> Any:
        if output_type == "latent":
            return latents
        images = self.vae.decode(latents).sample.float().clamp(0, 1)
        if output_type == "pt":
            return images
        arrays = images.cpu().permute(0, 2, 3, 1).numpy()
        if output_type == "np":
            return arrays
        if output_type == "pil":
            return self.numpy_to_pil(arrays)
        raise ConfigError(f"output_type={output_type!r} is unknown; choose pil, np, pt or latent")

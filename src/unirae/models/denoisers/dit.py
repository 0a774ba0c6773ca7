"""The plain diffusion transformer: LightningDiT's blocks (Yao et al. 2025) after DiT (Peebles and Xie 2023).

x = patch embedding + fixed sin-cos positions, then blocks conditioned on c = time + label. In the RAE paper it is the
baseline: to fit high-dimensional latents its width must be at least theirs (section 4.1).
"""

from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from unirae.core.precision import full_precision
from unirae.models.denoisers.base import Denoiser, xavier
from unirae.models.denoisers.condition import Condition
from unirae.models.denoisers.config import DiTConfig
from unirae.nn.embeddings import TimeEmbedding
from unirae.nn.modulation import ModulatedOutput
from unirae.nn.parameter_groups import ParameterGroups, group_parameters
from unirae.nn.positions import sincos_positions


class DiT(Denoiser):
    """One stack of blocks of one width; for the arguments see :class:`~unirae.models.denoisers.config.DiTConfig`."""

    config_class: ClassVar[type[DiTConfig]] = DiTConfig

    def build(self, config: DiTConfig) -> None:
        """Make the embeddings, the blocks and the output."""
        (stack,) = config.stacks
        self.patch_embed = nn.Linear(self.token_width, stack.width)
        self.positions = nn.Parameter(sincos_positions(stack.width, self.grid)[None], requires_grad=False)
        self.time_embed = TimeEmbedding(width=stack.width)
        self.label_embed = nn.Embedding(self.num_classes + 1, stack.width)
        self.rotary = self.rotary_of(stack, config)
        self.blocks = self.blocks_of(stack, config)
        self.output = ModulatedOutput(width=stack.width, out_width=self.token_width, options=config)

    def reset(self, label_init_std: float) -> None:
        """LightningDiT's start: Xavier everywhere, then zero modulation and output."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                xavier(module)
        super().reset(label_init_std)

    def blocks_in_order(self) -> list[Any]:
        """The blocks of the one stack."""
        return [*self.blocks]

    def parameter_groups(self) -> ParameterGroups:
        """Trained parameters in groups: matrices are those of blocks, time's embedding and output's modulation."""
        return group_parameters(self, edges=("patch_embed", "label_embed", "output.linear"))

    def predict(
        self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], y: Condition | Tensor
    ) -> Float[Tensor, "b c h w"]:
        """Velocity or data at x_t."""
        labels = self.labels_of(y)
        self.check(x, t, labels)
        steering = (self.time_embed(t) + self.label_embed(labels))[:, None]
        hidden = self.patch_embed(self.patchify(x)) + self.positions
        hidden = self.run(self.blocks, hidden, steering, self.rotary)
        return full_precision(self.unpatchify(self.output(hidden, steering)))

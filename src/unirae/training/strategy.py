"""Data parallelism for training steps with two optimizers."""

import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy

from unirae.core.distributed import prepare_group


class GradientAveraging(DDPStrategy):
    """Processes, devices and launchers as Lightning's DDP; the gradients are averaged by our updaters.

    Torch's DDP wrapper expects one backward pass per forward that reaches every parameter. A GAN step has two
    networks, gradients with respect to images, and forward passes without gradients; instead of telling DDP
    about each exception, every update averages exactly the gradients that it is about to apply, during its last
    backward pass (:class:`~unirae.training.averaging.OverlappingAverage`), once whatever the number of micro-batches.
    """

    def setup_distributed(self) -> None:
        """Join the group, which is then left at exit; Lightning by itself leaves only NCCL's."""
        prepare_group()
        super().setup_distributed()

    def configure_ddp(self) -> None:
        """Leave the module unwrapped, and start every process from the first one's weights."""
        assert self.model is not None
        for tensor in [*self.model.parameters(), *self.model.buffers()]:
            dist.broadcast(tensor.data, src=0)

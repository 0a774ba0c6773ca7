"""The stages of training by name, one file for each.

To add one: a subclass of :class:`~unirae.app.run.stages.base.Stage` in a file of its own, and its line below.
"""

from unirae.app.run.stages.base import Stage
from unirae.app.run.stages.linear_probe import LinearProbeStage
from unirae.app.run.stages.mae import MaeStage
from unirae.app.run.stages.stage1 import Stage1Stage
from unirae.app.run.stages.stage2 import Stage2Stage

STAGES: dict[str, Stage] = {
    stage.name: stage for stage in (MaeStage(), Stage1Stage(), Stage2Stage(), LinearProbeStage())
}

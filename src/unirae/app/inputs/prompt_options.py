"""The options of a command that makes pictures of prompts, and the prompts that they mean."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from unirae.app.config.schema.kinds import Count
from unirae.app.inputs.prompt_list import IMAGES_PER_PROMPT, LayoutName, PromptList
from unirae.app.inputs.prompts import Prompt, read_prompts
from unirae.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class PromptOptions:
    """The prompts of a command."""

    prompt: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A text to make images of; may be given several times. Of models that were trained on captions."""
    prompts: Path | None = None
    """A file of prompts: .txt with one on each line, .jsonl with an object on each line (prompt and, where wanted,
    seed, cfg_scale, negative_prompt, name), .csv or .tsv with these columns, or a folder of .txt files. What a line
    says beats the options (docs/sampling.md)."""
    negative_prompt: str | None = None
    """The text that guidance leads away from, of prompts that have none of their own. Default: the empty one."""
    images_per_prompt: Count | None = None
    """Images of each prompt. Default: 1, and 4 in the layouts geneval and dpg."""
    layout: LayoutName = "plain"
    """The names of the images: plain numbers them, geneval and dpg are what the evaluators of GenEval and of DPG-Bench
    read."""


def prompts_of(
    options: PromptOptions, *, labels: str | None = None, num_samples: int | None = None
) -> PromptList | None:
    """The prompts that the options name; None where they name none.

    Args:
        labels: what ``--labels`` says.
        num_samples: what ``--num_samples`` says.

    Raises:
        ConfigError: If options exclude or lack each other.
        DataError: If the file of the prompts is missing or not understood.
    """
    if options.prompt and options.prompts is not None:
        raise ConfigError("--prompt and --prompts are two ways to give prompts; leave one out")
    if not options.prompt and options.prompts is None:
        _refuse_without_prompts(options)
        return None
    given = "--prompts" if options.prompts is not None else "--prompt"
    if labels is not None:
        raise ConfigError(
            f"--labels are for models of classes, {given} for models of captions; leave one out"
        )
    if options.prompts is not None:
        found = read_prompts(options.prompts)
    else:
        found = [Prompt(text=_whole(text)) for text in options.prompt]
    each = options.images_per_prompt or (1 if options.layout == "plain" else IMAGES_PER_PROMPT)
    if num_samples is not None and num_samples != len(found) * each:
        raise ConfigError(
            f"--num_samples {num_samples}: {len(found)} prompt{'s' if len(found) > 1 else ''} with {each} "
            f"image{'s' if each > 1 else ''} each make {len(found) * each}; leave it out and give --images_per_prompt"
        )
    if options.negative_prompt is not None:
        negative = _whole(options.negative_prompt, flag="--negative_prompt")
        found = [replace(one, negative=negative) if one.negative is None else one for one in found]
    return PromptList(prompts=found, images_per_prompt=each)


def _refuse_without_prompts(options: PromptOptions) -> None:
    given = {
        "--negative_prompt": options.negative_prompt is not None,
        "--images_per_prompt": options.images_per_prompt is not None,
        f"--layout {options.layout}": options.layout != "plain",
    }
    if lone := [flag for flag, is_given in given.items() if is_given]:
        raise ConfigError(f"{' and '.join(lone)}: this is of prompts; give some with --prompt or --prompts")


def _whole(text: str, flag: str = "--prompt") -> str:
    """The text of an option, unless the shell handed over bytes that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{flag}: character {error.start + 1} is not UTF-8; put the prompt into a UTF-8 file and give --prompts"
        ) from None
    return text

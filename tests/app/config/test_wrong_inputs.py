"""Wrong inputs of every kind, to every command: one line that names what was wrong, status 2, nothing left behind.

Each row is (command, words, what the line must say). ``{x}`` is a path of :func:`things`; their folder and the working
folder of the command must be afterwards as they were before.
"""

import importlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tiny_checkpoint

TINY = "experiment=rae_tiny"
VALUES = [
    ("model.optimizer.lr=abc", "a number from 0 up"),
    ("model.optimizer.lr=-1", "a number from 0 up"),
    ("model.optimizer.lr=nan", "a number from 0 up"),
    ("model.optimizer.lr=true", "a number from 0 up"),
    ("model.optimizer.betas=0.9", r"a list \[a, b\]"),
    ("model.optimizer.betas=[0.9]", r"a list \[a, b\]"),
    ("model.optimizer.betas=[0.9,1.5]", "from 0 to below 1"),
    ("seed=x", "a whole number from 0"),
    ("seed=1 # x", "a whole number from 0"),
    ("model=null", "give a choice of model"),
    ("data=", "give a choice of data"),
    ("model.optimizer={{}}", "sets nothing"),
    ("+model.optimizer.kind=lion", "give adamw"),
    ("model.optimizer=null", r"as in model\.optimizer\.lr=VALUE"),
    ("seed=-1", "a whole number from 0"),
    ("seed=1.5", "a whole number from 0"),
    ("model.image_size=abc", "a whole number from 1"),
    ("model.image_size=1000000000", "to 16384"),
    ("trainer.log_every_n_steps=0", "a whole number from 1"),
    ("trainer.devices=-1", "auto or a whole number from 1"),
    ("trainer.devices=[0,1]", "auto or a whole number from 1"),
    ("trainer.devices=two", "auto or a whole number from 1"),
    ("trainer.accumulate_grad_batches=0", "a whole number from 1"),
    ("trainer.max_steps=0", "or null"),
    ("trainer.max_steps=inf", "or null"),
    ("trainer.precision=fp8", "auto, 32-true, bf16-mixed or 16-mixed"),
    ("trainer.deterministic=maybe", "true or false"),
    ("trainer.deterministic=2", "true or false"),
    ("trainer.profiler=deep", "simple or advanced or null"),
    ("model.ema_warmup=null", "true or false"),
    ("model.ema_decay=1.5", "from 0 to below 1"),
    ("model.disc_weight=-1", "a number from 0 up"),
    ("model.scheduler.warmup_steps=-5", "or null"),
    ("model.scheduler.type=cos", "cosine, linear or constant"),
    ("model.noise_kind=gauss", "uniform or half_normal"),
    ("model.augment.translation=2", "from 0 to 1"),
    ("model.perceptual.layers=3", "a list"),
    ("model.encoder.architecture.hidden_size=wide", "a whole number from 1"),
    ("model.encoder.kind=vit", "dinov2, dinov3, siglip2, mae"),
    ("model.encoder=mae", r"model/encoder=NAME"),
    ("model.stage=3", "stage1, mae, linear_probe, stage2"),
    ("data.global_batch_size=0", "a whole number from 1"),
    ("data.num_workers=-1", "a whole number from 0"),
    ("callbacks.samples.num_steps=1", "a whole number from 2"),
    ("callbacks.samples.ig_scale=-1", "a number from 0 up"),
    ("callbacks.generation_metrics.ig_interval=[0.1,1.5]", "each a number from 0 to 1"),
    ("callbacks.reconstruction_metrics.metrics=[psnr,fidd]", "fid"),
    ("callbacks.reconstruction_metrics.metrics=[psnr,psnr]", "and none twice"),
    ("callbacks.generation_metrics.metrics=[fid,fd,fid]", "and none twice"),
    ("callbacks.model_checkpoint.mode=best", "min or max"),
    ("paths.output_dir=", "a path"),
    ("logger.csv=perhaps", "true or false"),
]
KEYS = [
    ("model.optimizer.learning_rate=1", r"did you mean model\.optimizer\.lr\?"),
    ("trainer.max_step=3", r"did you mean trainer\.max_steps\?"),
    ("batch_size=3", r"did you mean data\.global_batch_size\?"),
    ("optimizer.lr=3", r"did you mean model\.optimizer\.lr\?"),
    ("+model.new.lr=3", r"model\.new\.lr=3: there is no such key"),
    ("nonsense=3", "the configuration has .*seed"),
    ("data.source.data_dir=x", r"data\.source\.data_dir=x: there is no such key"),
    ("model/encodr=mae", r"did you mean model/encoder"),
    ("model/encoder=dinov9", "did you mean dinov3"),
    ("debug=over", "did you mean overfit"),
    ("data=imagnet", "did you mean imagenet"),
    ("data=default", "choices: "),
    ("model/dit=dh_s", "this experiment has no model/dit"),
    ("hparams_search=optuna", "hydra-optuna-sweeper"),
    ("seed:3", "write seed=3"),
    ("seed =3", "write seed=3"),
    ("seed", "write seed=VALUE"),
    ("trainer.max_steps=[1", r"trainer\.max_steps=\[1"),
    ("--experiment=rae_tiny", "no dashes: experiment=rae_tiny"),
    ("--multrun", "did you mean --multirun"),
]
FILES = [
    ("ckpt_path={no}/epoch=0-step=1.ckpt", r"epoch=0-step=1\.ckpt: no such file"),
    ("ckpt_path=last", "there is no .*last.ckpt"),
    ("ckpt_path={text}", "note.txt"),
    ("ckpt_path={cut}", "cut.ckpt"),
    ("ckpt_path={stage2like}", "other.ckpt"),
    ("model.encoder.weights={no}", "no encoder weights at"),
    ("model.encoder.weights={empty}", "empty"),
    ("paths.output_dir={text}/run", "is a file"),
]
TRAIN = [(TINY, *row) for row in VALUES + KEYS + FILES]
ALONE = [
    ("experiment=rae_tinny", "did you mean rae_tiny"),
    ("rae_tiny", "write experiment=rae_tiny"),
    ("seed=1", "experiment=NAME is missing"),
    ("--cfg job", "experiment=NAME is missing"),
    ("--cfg jobs", "jobs"),
    (f"--cfg job {TINY} model.ema_decay=2", r"model\.ema_decay=2"),
    (f"-m {TINY} model.ema_decay=0.5,2", r"model\.ema_decay=2"),
    (f"-m {TINY} model.optimizer.learning_rate=1,2", "model.optimizer.lr"),
    (f"{TINY} experiment=dit_tiny", "give one experiment"),
    ("experiment=dit_base", "model.rae.pretrained_decoder_path=PATH"),
    ("experiment=dit_tiny model.rae.pretrained_decoder_path={no}", "nothing-here"),
    ("experiment=dit_tiny model/encoder=mae", r"model/encoder@model\.rae\.encoder"),
    ("experiment=mae_tiny data=image_folder", "data_dir"),
    ("experiment=mae_tiny data=image_folder data.data_dir={no}", "nothing-here"),
    ("experiment=rae_dino data.data_dir={no}", "nothing-here: cannot open the data"),
    ("experiment=mae_tiny data=image_folder data.data_dir={text}", "note.txt"),
    ("experiment=mae_tiny data=image_folder data.data_dir={empty}", "empty"),
    ("experiment=mae_tiny data=image_folder data.data_dir=1234", "1234"),
    ("experiment=mae_tiny data=image_folder data.data_dir={long}", "File name too long"),
    ("experiment=mae_tiny paths.output_dir={long}", "File name too long"),
    ("experiment=rae_tiny model.encoder.weights={long}", "File name too long"),
    ("experiment=mae_tiny ckpt_path={long}", "File name too long"),
    ("experiment=mae_tiny data=hf data.data_dir={empty}", "empty"),
    ("experiment=mae_tiny data=hf data.data_dir={no_rows}", "no_rows"),
    ("experiment=mae_tiny data=image_folder data.data_dir={stray}", "stray"),
    ("experiment=mae_tiny data=image_folder data.data_dir={unclear}", "train_extra"),
    ("experiment=mae_tiny data=tar_shards", "data.data_dir=/path/to/data"),
    (
        "experiment=mae_tiny data=tar_shards data.data_dir={no}",
        "nothing-here does not exist; expected a folder of",
    ),
    (
        "experiment=mae_tiny data=tar_shards data.data_dir={text}",
        r"note\.txt: it ends in the middle of a header; exp",
    ),
    ("experiment=mae_tiny data=tar_shards data.data_dir={empty}", r"empty holds no \.tar files"),
    ("experiment=mae_tiny data=tar_shards data.data_dir={long}", "File name too long"),
    ("experiment=mae_tiny data=tar_shards data.data_dir={no}-{{0..3}}.tar", "4 of its 4 shards do not exist"),
    (
        "experiment=mae_tiny data=tar_shards data.data_dir={no}-0.tar data.data_dir={no}-1.tar",
        r"1 more like it: one value is meant.* put the word in quotes",
    ),
    ("experiment=mae_tiny data=tar_shards data.source.val_fraction=2", "val_fraction=2"),
    ("experiment=mae_tiny callbacks.health_check.curves={no}", "no curves"),
    ("experiment=mae_tiny data.labels=false", "data.labels=false"),
    ("experiment=mae_tiny data.caption_column=text", "data.caption_column=text: this data"),
    (
        "experiment=mae_tiny data.caption_column=3",
        "data.caption_column=3: give text, several as",
    ),
    ("experiment=mae_tiny data.missing_captions=drop", "give null_prompt or leave_out"),
    ("experiment=mae_tiny callbacks.model_checkpoint.monitor=val/nope", "val/nope"),
    ("experiment=mae_tiny data.global_batch_size=100000", "global_batch_size"),
    ("experiment=mae_tiny data=mix", r"data\.sources is empty: give the data sets to mix"),
    (
        "experiment=mae_tiny data=mix data.sources=[{{data:emoij}}]",
        r"sources\[0\]\.data=emoij.* did you mean emoji",
    ),
    ("experiment=mae_tiny data=mix data.sources=[{{data:image_folder,data_dir:{no}}}]", "nothing-here"),
    ("experiment=mae_tiny data=mix data.sources=[{{data:emoji}},{{data:hf,data_dir:{text}}}]", "note.txt"),
    (
        "experiment=mae_tiny data=mix data.sources=[{{data:one_image,source.count:3}}]",
        "source one_image of the mix",
    ),
]
COMMANDS = [
    ("sample_dit", "", "--checkpoint is missing"),
    ("sample_dit", "--checkpont x", "did you mean --checkpoint"),
    ("sample_dit", "--checkpoint {no}", "nothing-here"),
    ("sample_dit", "--checkpoint {text}", "note.txt"),
    ("sample_dit", "--checkpoint {cut}", "cut.ckpt"),
    ("sample_dit", "--checkpoint {empty}", "empty"),
    ("sample_dit", "--checkpoint {rae}", "stage1"),
    ("sample_dit", "--checkpoint {rae} --num_steps 1", "--num_steps 1: give a whole number from 2"),
    ("sample_dit", "--checkpoint {rae} --num_steps many", "--num_steps many: give a whole number"),
    ("sample_dit", "--checkpoint {rae} --solver eulr", "did you mean euler"),
    ("sample_dit", "--checkpoint {rae} --batch_size 0", "--batch_size 0"),
    ("sample_dit", "--checkpoint {rae} --cfg_scale -1", "--cfg_scale -1"),
    ("sample_dit", "--checkpoint {rae} --guidance_interval 0.1", r"--guidance_interval 0\.1"),
    ("sample_dit", "--checkpoint {rae} --use_ema maybe", "--use_ema maybe: give true or false"),
    ("sample_dit", "--checkpoint {rae} extra", "extra"),
    ("sample_dit", "--checkpoint {rae} --device tpu", "--device tpu"),
    ("eval_rfid", "--checkpoint {rae} --metrics psnrr", "psnr"),
    ("eval_rfid", "--checkpoint {rae} --data {no}", "--data"),
    ("eval_rfid", "--checkpoint {rae} --data {text}", "--data"),
    ("eval_rfid", "--checkpoint {rae} --data hf --data_dir {no}", "--data_dir .*nothing-here: cannot open"),
    ("eval_rfid", "--checkpoint {rae} --num_samples 0", "--num_samples 0"),
    ("eval_rfid", "--checkpoint {rae} --metrics psnr --output {text}/out.json", "note.txt"),
    ("eval_rfid", "--checkpoint {rae} --metrics psnr --output {empty}", "empty"),
    ("eval_fid", "--checkpoint {no}", "nothing-here"),
    ("eval_fid", "--checkpoint {rae} --num_samples -5", "--num_samples -5"),
    ("evaluate", "--images {no} --reference {no}", "nothing-here"),
    ("evaluate", "--images {text} --reference {pictures} --metrics psnr", "note.txt"),
    ("evaluate", "--images {npz} --reference {pictures} --metrics psnr", "broken.npz"),
    ("evaluate", "--images {pictures} --reference {npz} --metrics psnr", "broken.npz"),
    ("evaluate", "--images {pictures} --reference {arrays} --metrics psnr", "arrays.npz"),
    ("evaluate", "--images {pictures} --reference {pictures} --metrics psnr --size 0", "--size 0"),
    ("evaluate", "--images {pictures} --reference {pictures} --metrics nope", "nope"),
    (
        "evaluate",
        "--images {pictures} --reference {pictures} --metrics psnr --output {text}/o.json",
        "note.txt",
    ),
    ("evaluate", "--images {long} --reference {pictures} --metrics psnr", "File name too long"),
    ("evaluate", "--images {pictures} --reference {pictures} --output {long}", "File name too long"),
    ("eval_rfid", "--checkpoint {long} --metrics psnr", "File name too long"),
    ("make_reference", "--data {no} --output r.npz", "nothing-here"),
    ("make_reference", "--data {pictures} --output {text}/r.npz --inception_weights random", "note.txt"),
    ("make_reference", "--data {pictures} --output r.npz --inception_weights {text}", "note.txt"),
    ("compare", "{no} {no}", "nothing-here"),
    ("compare", "{text} {text}", "note.txt"),
    ("compare", "{list} {list}", "list.json"),
    ("compare", "{empty} {empty}", "empty"),
    ("compare_run", "--run {no}", "nothing-here"),
    ("compare_run", "--run {text}", "note.txt"),
    ("compare_run", "--run {empty}", "empty"),
    ("compute_stats", "--checkpoint {rae}", "--output is missing"),
    ("compute_stats", "--checkpoint {no} --output o.ckpt", "nothing-here"),
    ("compute_stats", "--checkpoint {rae} --output {text}/o.ckpt", "note.txt"),
    ("compute_stats", "--checkpoint {rae} --output o.ckpt --per pixel", "element or channel"),
    ("reconstruct", "--checkpoint {rae} --images {no}", "nothing-here"),
    ("reconstruct", "--checkpoint {rae} --images {text}", "note.txt"),
    ("reconstruct", "--checkpoint {rae} --images {empty}", "empty"),
    ("reconstruct", "--checkpoint {rae} --images {pictures}/0.png --output_dir {text}", "note.txt"),
    ("eval_linear_probe", "--encoder_checkpoint {no}", "nothing-here"),
    ("eval_linear_probe", "--encoder_checkpoint {rae} --held_out 1", "--held_out 1"),
    ("eval_linear_probe", "--encoder_checkpoint {rae} --learning_rates a,b", "--learning_rates"),
    ("prepare_data", "--input {no} --output out", "nothing-here"),
    ("prepare_data", "--input {text} --output out", "note.txt"),
    ("prepare_data", "--input {empty} --output out", "empty"),
    ("prepare_data", "--input {pictures} --output {text}", "note.txt"),
    ("prepare_data", "--input {pictures} --output out --val_fraction 2", "--val_fraction 2"),
    ("prepare_data", "--input {pictures} --output out --shard_images 0", "--shard_images 0"),
    ("prepare_data", "--input {stray} --output out", "--flat"),
    ("prepare_data", "--input {unclear} --output out", "train_extra"),
    ("describe_encoder", "--encoder dinov9", "dinov9"),
    ("describe_encoder", "--encoder {empty}", "empty"),
    ("export", "--checkpoint {no} --output out", "nothing-here"),
    ("export", "--checkpoint {rae} --output {text}", "note.txt"),
    ("convert", "--from official --output out", "--"),
    ("convert", "--from nobody --output out", "rae or diffusers$"),
    ("fetch_weights", "--experiment nope", "did you mean|choices"),
    ("fetch_weights", "--experiment rae_dino --to {text}", "is a file"),
    ("sweep_guidance", "--checkpoint {rae} --guidance_interval 2,3", "--guidance_interval"),
    ("sweep_guidance", "--checkpoint {rae} --num_steps 1", "--num_steps 1"),
    ("demo", "--override trainer.max_step=3", "max_step"),
    ("demo", "--override dit:model.optimizer.lr=abc", r"model\.optimizer\.lr=abc"),
    ("demo", "--num_steps 0", "--num_steps 0"),
    ("main", "smaple-dit", "sample-dit"),
]


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files and folders that are not what is asked for, and a few that are."""
    root = tmp_path_factory.mktemp("wrong")
    rae = tiny_checkpoint.write_checkpoint(root / "run")
    (root / "empty").mkdir()
    (root / "pictures").mkdir()
    for i in range(3):
        Image.fromarray(np.full((40, 48, 3), 50 * i, np.uint8)).save(root / f"pictures/{i}.png")
    (root / "note.txt").write_text("shopping list")
    (root / "list.json").write_text(json.dumps([1, 2]))
    (root / "cut.ckpt").write_bytes(rae.read_bytes()[:1000])
    (root / "broken.npz").write_bytes(b"PK\x03\x04 no archive")
    np.savez(root / "arrays.npz", weights=np.zeros(3))
    import torch

    torch.save({"state_dict": {}}, root / "other.ckpt")
    for name, count in {
        "stray": 20,
        "stray/rejected": 2,
        "unclear/train/a": 3,
        "unclear/train_extra/a": 3,
    }.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (40, 40), (i, 0, 0)).save(root / name / f"{i}.png")
    import datasets

    columns = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    datasets.Dataset.from_dict({"image": [], "label": []}, features=columns).save_to_disk(root / "no_rows")
    names = {
        "text": "note.txt",
        "list": "list.json",
        "cut": "cut.ckpt",
        "npz": "broken.npz",
        "no": "nothing-here",
        "long": "x" * 300,
    }
    names |= {"arrays": "arrays.npz", "empty": "empty", "pictures": "pictures", "stage2like": "other.ckpt"}
    names |= {name: name for name in ("stray", "unclear", "no_rows")}
    return {"rae": rae, **{key: root / name for key, name in names.items()}}


def tree(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.lstat().st_size for path in folder.rglob("*")}


def refused(command: str, words: list[str], things: dict[str, Path], folder: Path, monkeypatch, capfd) -> str:
    """The one line with which a command refuses; nothing may have changed."""
    module = importlib.import_module(f"unirae.app.{command}")
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", [command, *(word.format_map(things) for word in words)])
    root = things["text"].parent
    before = tree(folder), tree(root)
    capfd.readouterr()
    try:
        status = module.main()
    except SystemExit as stop:
        status = stop.code
    said = capfd.readouterr().err
    assert status == 2, said
    assert "Traceback" not in said
    assert (tree(folder), tree(root)) == before, said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, said
    assert said.rstrip().splitlines()[-1] == errors[0], said
    return errors[0]


@pytest.mark.parametrize(("experiment", "word", "cause"), TRAIN, ids=[row[1] for row in TRAIN])
def test_a_wrong_word_of_training(experiment, word, cause, things, tmp_path, monkeypatch, capfd):
    line = refused("train", [experiment, word], things, tmp_path, monkeypatch, capfd)
    assert re.search(cause, line), line
    assert word.lstrip("+-").split("=")[0].split(":")[0].strip() in line


@pytest.mark.parametrize(("words", "cause"), ALONE, ids=[row[0] for row in ALONE])
def test_a_wrong_command_line_of_training(words, cause, things, tmp_path, monkeypatch, capfd):
    assert re.search(cause, refused("train", words.split(), things, tmp_path, monkeypatch, capfd))


@pytest.mark.parametrize(("command", "words", "cause"), COMMANDS, ids=[f"{c} {w}" for c, w, _ in COMMANDS])
def test_a_wrong_option(command, words, cause, things, tmp_path, monkeypatch, capfd):
    assert re.search(cause, refused(command, words.split(), things, tmp_path, monkeypatch, capfd))

"""What users do wrong: each mistake is one sentence that names it, exit status 2, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from holdfast.cli.main import main

# ------------------------------------------------------------------------------------------------------ what the user typed


def fit(data: str = "birds") -> str:
    """A command that works where DATA does; options typed behind it win."""
    return f"holdfast fit {data} --model demo:glyphnet --epochs 1 --batch-size 4 --threads 1 --device cpu --quiet --out out"


RESUME = "holdfast fit --quiet --device cpu --resume"

# Command, and the beginning of the sentence; … stands for anything.
COMMAND_LINE = [
    ("holdfast fit birds --model demo:glyphnet", "--out is missing; for example: holdfast fit "),
    (f"{fit()} --val-fracton 0.2", "--val-fracton: unknown option. Did you mean --val-fraction?"),
    (f"{fit()} --weights ''", "--weights: a value is missing; type --weights FILE."),
    (f"{fit()} --method adrand", "--method: unknown method 'adrand'. Did you mean 'adarand'? Known: adarand, "),
    (f"{fit()} --method adarand --method.alhpa 1", "--method.alhpa: method 'adarand' has no option 'alhpa'. Did you mean 'alpha'?"),
    (f"{fit()} --method adarand --method.alpha 7", "--method.alpha: expected a number from 0 to 1, got '7'."),
    (f"{fit()} --method adarand --method.weight nan", "--method.weight: expected a number of at least 0, got 'nan'."),
    (f"{fit()} --method adarand+l2-sp --method.weight 1", "--method.weight: this run composes adarand and l2-sp; say which is meant: "),
    (f"{fit()} --method bss --method.k 0", "--method.k: expected a whole number of at least 1, got '0'."),
    (
        f"{fit()} --method delta --method.layers block1.conv2,blok2.conv2",
        "delta: --method.layers 'block1.conv2,blok2.conv2' names 'blok2.conv2', but the network has no such layer. "
        "Did you mean 'block2.conv2'",
    ),
    (f"{fit()} --method uot", "--method uot: needs the data that the network was pretrained on; add --source-data with a folder or table"),
    (f"{fit()} --source-data birds", "--source-data birds: no method of this run trains on it; leave it out, or type --method uot"),
    (f"{fit()} --method uot --source-data nowhere", "--source-data: nowhere: there is no such folder"),
    (f"{fit()} --method bi-tuning --augment none", "--augment none: method 'bi-tuning' compares augmented views of an image"),
    (f"{fit()} --method stochnorm --batchnorm frozen", "--batchnorm frozen: method 'stochnorm' needs BatchNorm that follows the batches"),
    (f"{fit()} --method core-tuning+uot", "--method: 'core-tuning' and 'uot' are both task losses; an objective has exactly one"),
    (
        f"{fit('uneven')} --method core-tuning --class-weights balanced",
        "--class-weights balanced: method 'core-tuning' takes no weights of examples",
    ),
    (f"{fit()} --method fnp+fnp", "--method: method 'fnp' is named twice; give it once"),
    (f"{fit()} --preset papr", "--preset: expected one of none, paper, ju2022, got 'papr'. Did you mean 'paper'?"),
    (f"{fit()} --lr nan", "--lr: expected a number of at least 0, got nan."),
    (f"{fit()} --lr 0,01", "--lr: expected a number, got '0,01'."),
    (f"{fit()} --shots 0", "--shots: expected a whole number of at least 1, got 0."),
    (f"{fit()} --train-fraction 0", "--train-fraction: expected a number above 0 and at most 1, got 0.0."),
    (f"{fit()} --folds 1 --fold 0", "--folds: expected a whole number of at least 2, got 1."),
    (f"{fit()} --fold 0", "--fold 0: of how many folds? Give --folds too, such as --folds 5."),
    (f"{fit()} --folds 5", "--folds 5: needs --fold, the one that is held out, from 0 to 4."),
    (f"{fit()} --folds 3 --fold 3", "--fold 3: expected one from 0 to 2, since --folds is 3."),
    (f"{fit()} --sampling ballanced", "--sampling: expected one of uniform, balanced, got 'ballanced'. Did you mean 'balanced'?"),
    (f"{fit()} --epochs 0", "--epochs: expected a whole number of at least 1, got 0."),
    (f"{fit()} --val-fraction 1.2", "--val-fraction: expected a number between 0 and 0.9, got 1.2."),
    (f"{fit()} --seed 99999999999999999999", "--seed: expected a whole number between 0 and 4294967295, got 99999999999999999999."),
    (f"{fit()} --schedule step", "--schedule step: needs --milestones, the epochs at which the rate falls, such as 9,18,24."),
    (f"{fit()} --milestones 3", "--milestones 3: only --schedule step uses milestones, and it is cosine; write --schedule step."),
    (f"{fit()} --schedule step --milestones 9,18", "--milestones 9,18: epoch 18 is never reached with --epochs 1; choose milestones below"),
    (f"{fit()} --batch-size 0", "--batch-size: expected a whole number of at least 1, got 0."),
    (f"{fit()} --batch-size 10 --accumulate 3", "--batch-size 10: not divisible by --accumulate 3; the nearest that is: 9."),
    (f"{fit()} --batch-size 48 --accumulate 3", "--batch-size 48: the training split has 8 examples, …; type --batch-size 6"),
    (f"WORLD_SIZE=2 {fit()} --batch-size 5", "--batch-size 5: not divisible by 2 ranks; the nearest that is: 4."),
    (f"WORLD_SIZE=2 {fit()}", "the environment variable WORLD_SIZE is 2, but MASTER_ADDR is not set, …; start with torchrun, or unset"),
    (
        f"{fit()} --devices 2",
        "--devices 2: found 1 rank(s) on this machine, which holdfast never starts; type torchrun --nproc-per-node 2 ",
    ),
    (f"{fit()} --device gpu", "--device: expected auto, cpu, cuda or cuda:N, got 'gpu'."),
    (f"{fit()} --device cuda", "--device cuda: this machine has no GPU that torch can use; type --device cpu"),
    (f"{fit()} --precision fp16", "--precision fp16 needs a GPU; type --precision bf16 or fp32"),
]

FILES_OF_OPTIONS = [
    (f"{fit()} --config missing.yml", "--config missing.yml: no such file."),
    (f"{fit()} --config key.yaml", "key.yaml: unknown key 'val_fracton'. Did you mean 'val_fraction'?"),
    (f"{fit()} --config method.yaml", "method.yaml: method[0].name: unknown method 'adrand'. Did you mean 'adarand'?"),
    (f"{fit()} --config cut.yaml", "cut.yaml, line 3: expected ',' or ']', but got "),
    (f"{fit()} --config bytes.yaml", "bytes.yaml: no text file in UTF-8, so no YAML."),
    (f"{fit()} --plugin syntax.py", "--plugin syntax.py, line 2: SyntaxError: invalid syntax."),
    (f"{fit()} --plugin raises.py", "--plugin raises.py, line 3: ZeroDivisionError: division by zero."),
    (f"{fit()} --plugin birds", "--plugin birds: is a folder; give a Python file."),
]

DATA = [
    (fit("missing"), "missing: there is no such folder; expected a folder of images"),
    (fit("demo:digit"), "DATA 'demo:digit': unknown dataset 'digit'. Did you mean 'digits'?"),
    (fit("table.csv"), "table.csv: there is a header but no row below it."),
    (fit("nothing"), "nothing: there are no images; expected "),
    (fit("birds/a"), "birds/a: there are images such as '0.png' but no class folders; move the images of each class into a folder"),
    (fit("one"), "one: there is only one class, 'a', …; expected a folder for each of two or more classes."),
    (fit("gap"), "gap: class 'c' has no training image (there is none in its folder). Add images, …--allow-empty-classes"),
    (fit("unseen"), "unseen: class 'c' has no training image (but test has some). Add images, …--allow-empty-classes"),
    (fit("corrupt"), "corrupt: 1 of 12 images cannot be read: b/3.png (image file is truncated). Replace them, or type --skip-bad"),
    (fit("nan"), "nan: 1 of 13 images cannot be read: a/nan.tiff (it holds NaN). Replace them, or type --skip-bad"),
    (f"{fit()} --train-list unknown.txt", "--train-list unknown.txt: the list names 2 images not in birds: 'b/17.png', 'c/0.png'."),
    (f"{fit()} --train-list birds", "--train-list birds: this is a folder; expected a text file with one path a line."),
    (f"{fit()} --folds 20 --fold 0", "--folds 20: birds has only 12 images to cut them from; choose at most 12."),
    (f"{fit()} --group-by '(p'", "--group-by (p: birds has no such column, and this is no regular expression (…); type one that"),
    (f"{fit()} --group-by patient", "--group-by patient: birds has no such column, and as a regular expression it finds nothing in any id"),
    (f"{fit('unseen')} --test-split exam", "--test-split exam: unseen has no such split; it has 'test', 'train'."),
    (f"{fit()} --test-split val", "--test-split val: birds has no splits, so test is cut from it; leave the option out."),
]

NETWORK = [
    (f"{fit()} --model demo:glypnet", "--model 'demo:glypnet': unknown model 'glypnet'. Did you mean 'glyphnet'?"),
    (f"{fit()} --model glyphnet", "--model 'glyphnet': say where the network comes from, such as timm:glyphnet"),
    (f"{fit()} --model tim:resnet18", "--model 'tim:resnet18': unknown kind of model 'tim'. Did you mean 'timm'?"),
    (f"{fit()} --model python:nets.py:headless", "--model python:nets.py:headless (Conv2d) has no Linear head, … vector"),
    (f"{fit()} --model python:nets.py:fails", "--model python:nets.py:fails: the function failed (ValueError: first line second line)"),
    (f"{fit()} --model python:nets.py:hedless", "--model python:nets.py:hedless: 'nets.py' has no function 'hedless'. Did you mean"),
    (
        f"{fit()} --model python:nets.py:coarse --image-size 8",
        "the network failed on images of shape 2 x 3 x 8 x 8 (…); try another --image-",
    ),
    (
        f"{fit()} --method co-tuning --weights random",
        "method 'co-tuning' needs the classification head of the pretraining, and these weights have none: use weights of a classifier",
    ),
    (f"{fit()} --head stem", "--head 'stem' is a Sequential, not a Linear layer. Its last Linear layers: fc."),
    (f"{fit()} --weights missing.pt", "--weights missing.pt: there is no such file; give a safetensors or torch file, or 'random'"),
    (
        f"{fit()} --weights other.safetensors",
        "--weights other.safetensors does not fit demo:glyphnet, tensors: 45 missing (stem.0.weight, ",
    ),
    (
        f"{fit()} --weights cut.safetensors",
        "--weights cut.safetensors: this is no complete safetensors file (…); it may be truncated: copy",
    ),
    (f"{fit()} --weights cut.pt", "--weights cut.pt: this is no complete torch file; it may be truncated: copy or download it again"),
    (f"{fit()} --weights nan.safetensors", "--weights nan.safetensors: the tensor 'fc.bias' contains NaN or infinity; use weights of an"),
    (
        f"{fit()} --weights code.pkl",
        "--weights code.pkl: the file contains code (builtins.exec) that would run when it is loaded, so it was refused",
    ),
]

RUNS = [
    (f"{fit()} --out done", "--out: 'done' holds a run already; go on with it (`holdfast fit --resume done`) or choose another --out"),
    (f"{fit()} --out birds", "--out: 'birds' is not empty (it contains 'a') and is no run; choose another --out"),
    (f"{fit()} --out table.csv/run", "--out: cannot make the directory 'table.csv/run': '…table.csv' is a file; choose another place"),
    (
        f"{fit()} --out locked/run",
        "--out: cannot make the directory 'locked/run': no permission to write in '…locked'; choose another place",
    ),
    (f"{RESUME} birds", "'birds' is no run directory: config.yaml is missing; give a directory that holdfast fit wrote"),
    (f"{RESUME} nowhere", "'nowhere' is no run directory: it does not exist"),
    (f"{RESUME} unfinished --lr 1", "--lr: a resumed run keeps its options; only --device, "),
    (f"{RESUME} cut-state", "'cut-state/checkpoint/state.pt' is damaged or no checkpoint (…; start it again: holdfast fit --config "),
    (f"{RESUME} list-state", "'list-state/checkpoint/state.pt' is damaged or no checkpoint (…; start it again: holdfast fit --config "),
    (f"{RESUME} code-state", "'code-state/checkpoint/state.pt' is damaged or no checkpoint (…; start it again: holdfast fit --config "),
    (
        f"{RESUME} other-data",
        "--resume other-data: the data in 'changed' changed since the checkpoint (…; bring back what it was, or start a new",
    ),
    (
        f"{RESUME} other-lr",
        "--resume other-lr: the option method[1].prior_lr is 0.02 in config.yaml and was 0.01 at the checkpoint; change it back",
    ),
    ("holdfast predict unfinished birds", "'unfinished' has not finished training; type `holdfast fit --resume unfinished`"),
    ("holdfast predict no-result birds", "'no-result' has not finished training; type `holdfast fit --resume no-result`"),
    ("holdfast predict cut-model birds", "'cut-model/model.safetensors' is damaged: "),
    ("holdfast predict done nothing", "nothing: there is no image in this folder."),
]

ALL = [*COMMAND_LINE, *FILES_OF_OPTIONS, *DATA, *NETWORK, *RUNS]


@pytest.mark.parametrize(("command", "sentence"), ALL, ids=[command.replace(f"{fit()} ", "fit ") for command, _ in ALL])
def test_a_mistake_is_one_sentence_and_leaves_nothing_behind(here, monkeypatch, capsys, command, sentence):
    before = tree(here)
    status = run(command, monkeypatch)
    captured = capsys.readouterr()
    *notes, last = captured.err.splitlines()
    assert status == 2
    assert re.match("holdfast: error: " + ".*".join(map(re.escape, sentence.split("…"))), last), last
    assert all(note.startswith(("holdfast: note: ", "holdfast: warning: ")) for note in notes), notes
    assert captured.out == ""
    assert tree(here) == before


def test_the_corrected_command_works_with_the_same_out(here, monkeypatch):
    assert run(fit("corrupt"), monkeypatch) == 2
    assert run(f"{fit('corrupt')} --skip-bad", monkeypatch) == 0
    shutil.rmtree("out")


def test_the_code_in_the_refused_files_does_run_where_it_is_not_refused(here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads((here / "code.pkl").read_bytes())
    assert (tmp_path / "it-ran").exists()
    assert not (here / "it-ran").exists()


# ---------------------------------------------------------------------------------------------------------- where it happens


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """A command as a shell takes it, with variables in front; its status."""
    words = shlex.split(command)
    start = words.index("holdfast")
    with monkeypatch.context() as patch:
        for variable in words[:start]:
            patch.setenv(*variable.split("=", 1))
        return main(words[start + 1 :])


def tree(folder: Path) -> set[Path]:
    """Everything below a folder, apart from what Python writes for itself."""
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


@pytest.fixture
def here(world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: on a machine without GPU and other ranks, as a user who is not root."""
    monkeypatch.chdir(world)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    access = os.access

    def without_privileges(path: Path, mode: int) -> bool:
        return access(path, mode) and (not mode & os.W_OK or bool(os.stat(path).st_mode & 0o222))

    monkeypatch.setattr(os, "access", without_privileges)
    return world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with datasets, weights, files and runs, nearly all of which are broken."""
    folder = tmp_path_factory.mktemp("world")
    with contextlib.chdir(folder):
        make_datasets()
        make_files()
        make_weights()
        make_runs()
    yield folder
    (folder / "locked").chmod(0o755)


def write_images(folder: str, classes: str = "ab") -> None:
    generator = np.random.default_rng(0)
    for name in classes:
        Path(folder, name).mkdir(parents=True)
        for number in range(6):
            Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(Path(folder, name, f"{number}.png"))


def cut(file: str, size: int) -> None:
    Path(file).write_bytes(Path(file).read_bytes()[:size])


def make_datasets() -> None:
    for name in ("birds", "gap", "corrupt", "nan", "changed", "unseen/train"):
        write_images(name)
    write_images("one", "a")
    write_images("uneven")
    for number in range(3):
        Path(f"uneven/b/{number}.png").unlink()
    write_images("unseen/test", "abc")
    for name in ("nothing", "gap/c"):
        Path(name).mkdir()
    cut("corrupt/b/3.png", 200)
    pixels = np.zeros((16, 16), dtype=np.float32)
    pixels[3, 3] = np.nan
    Image.fromarray(pixels).save("nan/a/nan.tiff")


def make_files() -> None:
    Path("locked").mkdir(mode=0o555)
    texts = {
        "table.csv": "file,label\n",
        "unknown.txt": "a/0.png\nb/17.png\nc/0.png\n",
        "key.yaml": "val_fracton: 0.1\n",
        "method.yaml": "method:\n- name: adrand\n",
        "cut.yaml": "milestones: [1,\n 2\n",
        "syntax.py": "import torch\ndef penalty(:\n",
        "raises.py": "import torch\n\n1 / 0\n",
        "nets.py": (
            "from torch import nn\n"
            "def headless(): return nn.Conv2d(3, 4, 3)\n"
            "def coarse(): return nn.Sequential(nn.Conv2d(3, 4, 16, 16), nn.Flatten(), nn.Linear(4, 3))\n"
            "def fails(): raise ValueError('first line\\nsecond line')\n"
        ),
    }
    for name, text in texts.items():
        Path(name).write_text(text)
    Path("bytes.yaml").write_bytes(b"\xff\xfe\x00")


class Code:
    """An object whose unpickling writes a file."""

    def __reduce__(self):
        return exec, ("open('it-ran', 'w').close()",)


def make_weights() -> None:
    from holdfast.models.glyphnet import glyphnet

    state = glyphnet(5).state_dict()
    for name in ("cut.safetensors", "nan.safetensors"):
        save_file(state, name)
    torch.save(state, "cut.pt")
    cut("cut.safetensors", 20_000)
    cut("cut.pt", 20_000)
    save_file({**load_file("nan.safetensors"), "fc.bias": torch.full((5,), torch.nan)}, "nan.safetensors")
    save_file({"conv1.weight": torch.zeros(8, 3, 3, 3), "classifier.weight": torch.zeros(5, 8)}, "other.safetensors")
    Path("code.pkl").write_bytes(pickle.dumps(Code()))


def make_runs() -> None:
    """One that has finished, and what can become of it; ``changed`` loses an image that the runs were trained on."""
    assert main(shlex.split(f"{fit('changed')} --method adarand --out done")[1:]) == 0
    shutil.copytree("changed", "original")
    Path("changed/a/0.png").unlink()
    for name in ("unfinished", "cut-state", "list-state", "code-state", "other-data", "other-lr"):
        shutil.copytree("done", name)
        Path(name, "result.json").unlink()
    cut("cut-state/checkpoint/state.pt", 3000)
    torch.save([1], "list-state/checkpoint/state.pt")
    torch.save({"schema": 1, "model": Code()}, "code-state/checkpoint/state.pt")
    config = Path("other-lr/config.yaml")
    config.write_text(config.read_text().replace("lr: 0.01", "lr: 0.02").replace("data: changed", "data: original"))
    for name in ("cut-model", "no-result"):
        shutil.copytree("done", name)
    cut("cut-model/model.safetensors", 3000)
    Path("no-result/result.json").write_text("{}")

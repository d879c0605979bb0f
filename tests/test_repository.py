"""The repository's own checks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]


def check_files(folder: Path, *names: str) -> tuple[int, str]:
    process = subprocess.run([sys.executable, ROOT / ".ci" / "check_files.py", *names], cwd=folder, capture_output=True, text=True)
    return process.returncode, process.stdout


def test_hooks_need_no_network():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    assert {hook["language"] for hook in config["repos"][0]["hooks"]} == {"system"}


def test_continuous_integration_is_make_test():
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == "exec make test"
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_large_files_are_refused_but_for_the_demo_weights(tmp_path):
    assets = tmp_path / "src" / "holdfast" / "assets"
    assets.mkdir(parents=True)
    for path in (tmp_path / "data.bin", assets / "net.safetensors", assets / "net.pt"):
        path.write_bytes(bytes(500_001))
    (tmp_path / "small.bin").write_bytes(bytes(500_000))
    code, refused = check_files(tmp_path, "data.bin", "small.bin", "src/holdfast/assets/net.safetensors", "src/holdfast/assets/net.pt")
    assert code == 1
    assert refused.splitlines() == ["data.bin: 500 kB, more than 500 kB", "src/holdfast/assets/net.pt: 500 kB, more than 500 kB"]


def test_private_keys_are_refused(tmp_path):
    (tmp_path / "id").write_text("-----BEGIN " + "OPENSSH PRIVATE " + "KEY-----\n")
    assert check_files(tmp_path, "id") == (1, "id: contains a private key\n")


def test_ordinary_files_pass(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    assert check_files(tmp_path, "a.txt", "deleted.txt") == (0, "")

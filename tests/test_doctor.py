"""The doctor: a healthy machine passes, and each illness gives a failed line that says what to do."""

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from diffusion_course import doctor
from diffusion_course.doctor import Finding


@dataclass
class File:
    name: str
    path: Path
    sha256: str


def statuses(findings):
    return [finding.status for finding in findings]


def test_versions_against_lower_bounds():
    found = list(doctor.check_versions({"pytest": "1.0", "torch": "99.1", "no-such-package": "1.0"}))
    assert statuses(found) == ["ok", "ok", "fail", "fail"]
    assert "is older than 99.1" in found[2].text
    assert 'pip install --upgrade "torch>=99.1"' in found[2].remedy
    assert found[3].text == "no-such-package is missing"
    assert 'pip install "no-such-package>=1.0"' in found[3].remedy


def test_a_course_that_is_not_installed_and_an_old_python_fail(monkeypatch):
    monkeypatch.setattr(doctor, "MIN_PYTHON", (99, 0))
    found = list(doctor.check_versions({}))
    assert statuses(found) == ["fail", "fail"]
    assert "99.0" in found[0].text
    assert "make lab" in found[1].remedy


@pytest.mark.parametrize(
    ("version", "numbers"), [("2.14.1+cu121", (2, 14, 1)), ("3.0rc1", (3, 0)), ("2025.9.1", (2025, 9, 1)), ("", ())]
)
def test_release_numbers(version, numbers):
    assert doctor.release(version) == numbers


def test_devices_work_here():
    assert "fail" not in statuses(doctor.check_device())


def test_a_device_without_half_precision_is_a_warning_and_without_float32_a_failure(monkeypatch):
    import torch

    plain = torch.linspace

    def refuse(refused):
        def linspace(*args, dtype, **options):
            if dtype is refused:
                raise RuntimeError("not implemented for this device\nlong trace")
            return plain(*args, dtype=dtype, **options)

        monkeypatch.setattr(torch, "linspace", linspace)

    refuse(torch.float16)
    assert statuses(doctor.check_device()) == ["ok", "ok", "ok", "ok", "warn"]
    refuse(torch.float32)
    found = list(doctor.check_device())
    assert statuses(found) == ["ok", "fail", "ok", "ok", "ok"]
    assert "not implemented for this device" in found[1].text
    assert "long trace" not in found[1].text


@pytest.mark.parametrize(("size", "status"), [(64, "ok"), (0.5, "warn-disk"), (0.1, "fail")])
def test_room(size, status):
    found = list(doctor.check_room(available=int(size * 2**30), free=int(size * 2**30)))
    expected = {"ok": ["ok", "ok"], "warn-disk": ["fail", "warn"], "fail": ["fail", "fail"]}[status]
    assert statuses(found) == expected
    assert all(finding.remedy for finding in found if finding.status != "ok")


def test_kernel_of_this_environment_passes_and_a_foreign_or_missing_one_fails(monkeypatch):
    from jupyter_client import kernelspec

    assert statuses(doctor.check_jupyter()) == ["ok", "ok"]

    class Spec:
        argv = ["/usr/bin/env", "-m", "ipykernel_launcher"]

    monkeypatch.setattr(kernelspec.KernelSpecManager, "get_kernel_spec", lambda self, name: Spec)
    first = next(iter(doctor.check_jupyter()))
    assert first.status == "fail"
    assert "/usr/bin/env" in first.text
    assert "ipykernel install" in first.remedy

    def missing(self, name):
        raise kernelspec.NoSuchKernel(name)

    monkeypatch.setattr(kernelspec.KernelSpecManager, "get_kernel_spec", missing)
    (only,) = doctor.check_jupyter()
    assert only.status == "fail"
    assert "missing" in only.text


def test_shipped_data_whole_damaged_and_missing(tmp_path):
    whole = tmp_path / "whole.safetensors"
    whole.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    files = [File("whole", whole, digest), File("damaged", whole, "0" * 64), File("missing", tmp_path / "none", digest)]
    found = list(doctor.check_data(files))
    assert statuses(found) == ["ok", "fail", "fail"]
    assert "damaged" in found[1].text
    assert "cannot be read" in found[2].text
    assert all("git checkout -- data" in finding.remedy for finding in found[1:])


def test_smoke_run_learns():
    (finding,) = doctor.check_smoke()
    assert finding.status in ("ok", "warn")
    assert "64 samples" in finding.text


def test_smoke_run_of_a_slow_machine_warns_and_of_a_broken_one_fails(monkeypatch):
    import diffusion_course

    (slow,) = doctor.check_smoke(seconds=0.0)
    assert slow.status == "warn"
    assert "1 training steps" in slow.text
    assert "slow" in slow.remedy
    monkeypatch.setattr(diffusion_course, "train_step", lambda *args: 1.0, raising=False)
    (broken,) = doctor.check_smoke()
    assert broken.status == "fail"
    assert "the loss must fall" in broken.remedy
    monkeypatch.setattr(diffusion_course, "train_step", lambda *args: float("nan"), raising=False)
    (diverged,) = doctor.check_smoke(seconds=0.0)
    assert diverged.status == "fail"


def test_report_counts_failures_and_goes_on_after_a_crash(monkeypatch, capsys):
    def check_crash():
        yield Finding("ok", "before")
        raise OSError("disk gone")

    def check_later():
        yield Finding("warn", "later", "look")

    monkeypatch.setattr(doctor, "CHECKS", (check_crash, check_later))
    assert doctor.main() == 1
    printed = capsys.readouterr().out
    assert "[fail] crash: OSError: disk gone\n       -> run make test" in printed
    assert "[warn] later\n       -> look" in printed
    assert "1 failed, 1 warnings." in printed

    monkeypatch.setattr(doctor, "CHECKS", (check_later,))
    assert doctor.main() == 0
    assert "0 failed, 1 warnings. This machine is ready" in capsys.readouterr().out


def test_wrong_arguments_print_usage(capsys):
    assert doctor.main(["--nonsense"]) == 2
    done = subprocess.run([sys.executable, "-m", "diffusion_course", "nurse"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage: python -m diffusion_course doctor" in done.stderr


def test_every_line_that_is_not_ok_says_what_to_do(capsys):
    doctor.main()
    lines = capsys.readouterr().out.splitlines()
    for line, following in zip(lines, lines[1:], strict=False):
        assert line.startswith("[ ok ]") or not line.startswith("[") or following.startswith("       -> ")

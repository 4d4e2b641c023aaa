"""`__all__` of every public package is what the package really holds, sorted, and documented."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

PACKAGES = [
    "pa_lib",
    "pa_lib.callbacks",
    "pa_lib.data",
    "pa_lib.doubles",
    "pa_lib.evaluation",
    "pa_lib.functional",
    "pa_lib.metrics",
    "pa_lib.modules",
    "pa_lib.people",
    "pa_lib.pipeline",
    "pa_lib.pretrained",
    "pa_lib.reports",
    "pa_lib.video",
]


@pytest.mark.parametrize("package", PACKAGES)
def test_exports_exist_and_are_documented(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__doc__
    assert list(module.__all__) == sorted(module.__all__)
    for name in module.__all__:
        member = getattr(module, name)
        if inspect.isclass(member) or inspect.isfunction(member):
            assert inspect.getdoc(member), f"{package}.{name} has no docstring"


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import pa_lib", ["torch", "numpy", "av", "cv2", "hydra"]),
        ("import pa_lib.cli.anonymize", ["torch", "av", "cv2", "hydra", "rich"]),
        ("import pa_lib.evaluation, pa_lib.reports", ["torch", "lightning", "pydantic", "matplotlib"]),
        ("import pa_lib.modules", ["lightning", "diffusers"]),
        ("from pa_lib.modules import ConventionalAnonymizer", ["lightning", "diffusers", "torchvision"]),
        (  # the default of pa-anonymize: 330 MiB and seconds more
            "from pa_lib.modules import DoublesAnonymizer, DoublesReference, LightTransform",
            ["lightning", "diffusers", "torchvision", "torchmetrics", "transformers", "matplotlib"],
        ),
        ("import pa_lib.pipeline", ["lightning", "diffusers", "torchvision", "facenet_pytorch"]),
    ],
)
def test_imports_stay_light(statement: str, heavy: list[str]) -> None:
    probe = f"{statement}; import sys; print([name for name in {heavy} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True).stdout
    assert loaded.strip() == "[]"

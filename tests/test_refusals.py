"Whatever the package refuses can be caught by one class, and is one line."
import sys

import pytest
import torch

import colorization
from colorization import colorize, dataset, demo, eccv16, gan_refine, lab, metrics, onnx, quantization, reports
from colorization.core import checks
from colorization.jobs import cluster, local
from colorization.training import run

PARAMS = dict(model="compact", epochs=1, batch_size=1, lr=1e-3, size=32, seed=0, workers=0, resume=True)


def cluster_without_ray():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "ray", None)
        cluster.colorize_dataset("photos", "out")


def strange_smoothing():
    weights = dict(adversarial_weight=1, l1_weight=1, perceptual_weight=0)
    gan_refine.check_refine(PARAMS | weights | dict(discriminator_lr=1, smoothing=2))


REFUSALS = {
    lab.ImageError: lambda: lab.load_rgb("nowhere.jpg"),
    dataset.DatasetError: lambda: dataset.load_photos("./nowhere"),
    eccv16.ModelError: lambda: eccv16.load_model("nowhere.safetensors"),
    checks.RunError: lambda: run.check_training(PARAMS | dict(epochs=0)),
    checks.MetricError: lambda: metrics.evaluate(None, []),
    colorize.ColorizeError: lambda: colorize.Colorizer(saturation=-1),
    checks.DemoError: lambda: demo._named([]),
    checks.ExportError: lambda: onnx.export_onnx("compact", "model.onnx", temperature=-1),
    checks.ClusterError: cluster_without_ray,
    checks.ReportError: lambda: reports.some_photos(photos=1),
}


def refused(call):
    with pytest.raises(colorization.ColorizationError) as e: call()
    assert str(e.value) and "\n" not in str(e.value)
    return type(e.value)


@pytest.mark.parametrize("kind", REFUSALS, ids=lambda kind: kind.__name__)
def test_each_kind(kind):
    assert refused(REFUSALS[kind]) is kind
    assert issubclass(kind, ValueError)


@pytest.mark.parametrize("call", [
    lambda: quantization.decode(torch.zeros(1, 313, 1, 1), temperature=-1),
    lambda: quantization.rebalancing_weights(torch.ones(313)/313, "sqrt"),
    strange_smoothing,
    lambda: local.plan(["nowhere.jpg"], "out"),
    lambda: onnx.OnnxColorizer("nowhere.onnx"),
])
def test_the_others(call): refused(call)

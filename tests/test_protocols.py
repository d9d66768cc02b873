"Metrics that see through a network, beside torchmetrics and beside their definitions, with weights drawn at random."
import os
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.linalg import sqrtm
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
from torchvision.models import Inception_V3_Weights, VGG16_Weights, inception_v3, vgg16

from colorization import metrics
from colorization.core.weights import sha256
from colorization.dataset import load_photos
from colorization.perceptual import GivenFeatures, frechet_distance, inception, lpips_vgg
from colorization.protocols import PROTOCOLS, Prepared, evaluate_by, notes

FEATURES = 8  # of 2048: of ten pictures, more have no covariance of full rank


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    "A hub cache that holds Inception and VGG-16, with random weights."
    folder = tmp_path_factory.mktemp("torch")
    checkpoints = folder/"hub/checkpoints"
    checkpoints.mkdir(parents=True)
    torch.manual_seed(0)
    networks = {Inception_V3_Weights.IMAGENET1K_V1: inception_v3(weights=None, init_weights=False),
                VGG16_Weights.IMAGENET1K_V1: vgg16(weights=None, init_weights=False)}
    for weights, network in networks.items():
        state = {name: value[:1].clone().expand_as(value) if value.numel() > 1e7 else value  # a small file
                 for name, value in network.state_dict().items()}
        torch.save(state, checkpoints/Path(weights.url).name)
    with patch.dict(os.environ, TORCH_HOME=str(folder)): yield checkpoints


@pytest.fixture(scope="module")
def photos(): return load_photos("samples", "validation").select(range(0, 30, 3))


def pictures_of(photos, prepare, size):
    "The ten photos, and the same with their colours halved, `(10,3,size,size)` in [0, 1]."
    pairs = Prepared(photos, prepare)
    truth = torch.stack([torch.tensor(pairs.rgb(i)).movedim(-1, 0) for i in range(10)])[..., :size, :size]/255
    gray = truth.mean(1, keepdim=True)
    return truth, ((truth + gray)/2*255).round()/255


class Theirs(torch.nn.Module):
    "Features as the code of DDColor and of CT2 computes them, of what that code is given."
    num_features = FEATURES

    def __init__(self, path):
        super().__init__()
        self.net = inception_v3(weights=None, init_weights=False, transform_input=False).eval()
        self.net.load_state_dict(torch.load(path, weights_only=True))
        self.net.fc = torch.nn.Identity()

    @torch.no_grad()
    def forward(self, given):
        x = F.interpolate(given, size=(299, 299), mode="bilinear")*.5 + .5
        channels = zip(x.unbind(1), (.229, .224, .225), (.485, .456, .406))
        return self.net(torch.stack([c*(std/.5) + (mean - .5)/.5 for c, std, mean in channels], 1))[:, :FEATURES]


def few_features(device, metric):
    whole = inception(device, metric)
    return lambda rgb: whole(rgb)[:, :FEATURES]


def by_definition(one, other):
    "The Fréchet distance of two normal distributions, in NumPy."
    one, other = one.double().numpy(), other.double().numpy()
    covariances = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    shared = sqrtm(covariances[0] @ covariances[1]).real
    return ((one.mean(0) - other.mean(0))**2).sum() + np.trace(covariances[0] + covariances[1] - 2*shared)


# What their code is given of pictures in [0, 1]: CT2's [-1, 1], DDColor's the same [0, 1]
GIVEN = dict(fid_ct2=lambda rgb: rgb*2 - 1, fid_ddcolor=lambda rgb: rgb)


@pytest.fixture(scope="module")
def theirs(cache): return Theirs(cache/Path(Inception_V3_Weights.IMAGENET1K_V1.url).name)


@pytest.mark.parametrize("metric", GIVEN)
def test_pictures_are_fed_as_their_code_does(theirs, photos, metric):
    truth, _ = pictures_of(photos, PROTOCOLS["ct2"].prepare, 256)
    with torch.no_grad(): ours = few_features("cpu", metric)(truth[:2])
    assert torch.allclose(ours, theirs(GIVEN[metric](truth[:2])), rtol=1e-3, atol=1e-6)
    with torch.no_grad(): standard = few_features("cpu", "fid")(truth[:2])
    assert not torch.allclose(ours, standard, rtol=.05)


def test_fid_is_that_of_torchmetrics_and_of_its_definition(theirs, photos):
    truth, halved = pictures_of(photos, PROTOCOLS["ct2"].prepare, 256)
    expected = FrechetInceptionDistance(theirs)
    expected.update(GIVEN["fid_ct2"](truth), real=True)
    expected.update(GIVEN["fid_ct2"](halved), real=False)
    with torch.no_grad(): features = [few_features("cpu", "fid_ct2")(pictures) for pictures in (truth, halved)]
    with patch.object(GivenFeatures, "num_features", FEATURES): ours = frechet_distance("cpu")
    for part, real in zip(features, (True, False)): ours.update(part, real=real)
    assert ours.compute().item() == pytest.approx(expected.compute().item(), rel=1e-3)
    assert ours.compute().item() == pytest.approx(by_definition(*features), rel=1e-2)


def test_lpips_is_that_of_torchmetrics_and_of_its_definition(cache, photos):
    truth, halved = pictures_of(photos, PROTOCOLS["ct2"].prepare, 64)
    measure = lpips_vgg("cpu")
    with torch.no_grad():
        ours = measure(SimpleNamespace(rgb=halved), SimpleNamespace(rgb=truth))
        theirs = LearnedPerceptualImagePatchSimilarity(net_type="vgg", normalize=True)
        assert theirs(halved, truth).item() == pytest.approx(ours.mean().item(), rel=1e-4)

        mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((-.030, -.088, -.188), (.458, .448, .450)))
        layers = vgg16(weights=VGG16_Weights.IMAGENET1K_V1).features.eval()
        x = torch.stack([(rgb*2 - 1 - mean)/std for rgb in (truth, halved)])
        distance = torch.zeros(10)
        for i, (begin, end) in enumerate([(0, 4), (4, 9), (9, 16), (16, 23), (23, 30)]):
            x = torch.stack([layers[begin:end](half) for half in x])
            unit = x/(x.norm(dim=2, keepdim=True) + 1e-8)
            weights = getattr(theirs.net, f"lin{i}").model[1].weight[0]
            distance += (weights*(unit[0] - unit[1])**2).sum(1).mean((1, 2))
    assert ours.tolist() == pytest.approx(distance.tolist(), rel=1e-3)
    assert min(ours) > 0


def test_the_weights_are_named(cache, photos):
    "And what lacks labels is left out."
    few = photos.select(range(2))
    loaders = dict(inception=few_features, lpips_vgg=lambda device: lambda picture, truth: picture.rgb.mean((1, 2, 3)))
    with patch.multiple(metrics, **loaders), patch.object(GivenFeatures, "num_features", FEATURES):
        result = evaluate_by("ct2", None, few, progress=False)
    file = Path(Inception_V3_Weights.IMAGENET1K_V1.url).name
    assert f"fid_ct2: by {file}, SHA-256 {sha256(cache/file)[:16]}" in notes(result)
    assert "fid_ct2" in result["rows"]["gray"]["pooled"] and result["protocol"]["not_computed"] == {}
    left_out = evaluate_by("paper", None, few, progress=False)["protocol"]["not_computed"]
    assert list(left_out) == ["vgg16_top1"] and "give photos with ImageNet's labels" in left_out["vgg16_top1"]

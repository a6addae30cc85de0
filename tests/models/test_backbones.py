"""Backbones compute what timm's and torchvision's do, stage by stage."""

import pytest

from experiments.parity.backbones import differences, main, stored
from rankjax.models import MODELS

QUICK = ("resnet18, torchvision", "mobilenet_v3_small, timm", "vit_small_patch32, timm")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
        for name in stored()
    ],
)
def test_every_stage_equals_the_others_to_a_ten_thousandth(name):
    apart = differences(stored()[name])
    assert "features" in apart
    assert max(apart.values()) < 1e-4, apart


def test_every_network_is_compared_with_another_implementation():
    compared = {entry["model"] for entry in stored().values()}
    assert {*MODELS} - compared == {"convnet"}


def test_an_unknown_network_is_named(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["resnet19"])
    assert "no network 'resnet19'" in capsys.readouterr().err

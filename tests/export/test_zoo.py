"""SpikingJelly's model zoo imports, builds and runs in the test environment, though its torchvision does not load."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")
if find_spec("torchvision") is None:
    pytest.skip("torchvision is not installed", allow_module_level=True)

from spikingjelly.activation_based import functional, neuron  # noqa: E402

from tests.helpers.zoo import parametric_lif_net, sew_resnet, spiking_resnet, spiking_vgg  # noqa: E402

TIMESTEPS, CLASSES = 2, 10


@pytest.mark.parametrize(
    ("network", "options"),
    [
        (spiking_resnet.spiking_resnet18, {}),
        (sew_resnet.sew_resnet18, {"cnf": "ADD"}),
        (spiking_vgg.spiking_vgg11_bn, {}),
    ],
    ids=["spiking_resnet18", "sew_resnet18", "spiking_vgg11_bn"],
)
def test_a_network_of_the_zoo_classifies_a_batch(network, options):
    torch.manual_seed(0)
    model = network(pretrained=False, spiking_neuron=neuron.LIFNode, num_classes=CLASSES, **options)
    functional.set_step_mode(model, "m")
    with torch.no_grad():
        out = model(torch.rand(TIMESTEPS, 1, 3, 32, 32))
    assert out.shape == (TIMESTEPS, 1, CLASSES)
    assert torch.isfinite(out).all()


def test_the_parametric_lif_networks_are_there():
    assert issubclass(parametric_lif_net.MNISTNet, torch.nn.Module)
